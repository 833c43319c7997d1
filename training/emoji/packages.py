"""The packages behind the drawings: `packages.yaml` as dataclasses, and what is inside their files."""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from ...downloads.catalogue import PublishedFile

LIST = Path(__file__).with_name("packages.yaml")
LAYOUTS = ("names", "iconify", "bitmaps", "clipart")
AR_HEADER = 60  # bytes before each member of a Debian package


@dataclass(frozen=True)
class Package:
    """One file of the list."""

    name: str  # the style, or "names"
    layout: str  # one of LAYOUTS
    license: str
    credit: str
    file: PublishedFile


def read_packages() -> dict[str, Package]:
    """All packages by name; the names of code points first."""
    tree = yaml.safe_load(LIST.read_text(encoding="utf-8"))
    return {
        name: Package(name, entry["layout"], entry["license"], entry["credit"], PublishedFile(**entry["file"]))
        for name, entry in tree.items()
    }


def members(path: Path, suffix: str) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the plain files in a package, `.tgz` or `.deb`, whose name ends so."""
    source = data_of_deb(path) if path.suffix == ".deb" else path.open("rb")
    with source, tarfile.open(fileobj=source) as tar:
        for member in tar:
            if member.isfile() and member.name.endswith(suffix) and (file := tar.extractfile(member)):
                yield member.name, file.read()


def member(path: Path, name: str) -> bytes:
    """The contents of one file.

    Raises:
        ValueError: there is none whose name ends so.
    """
    for _, contents in members(path, name):
        return contents
    raise ValueError(f"{path} holds no {name}; delete it to fetch it anew")


def data_of_deb(path: Path) -> io.BytesIO:
    """The tar file with a Debian package's files: a member `data.tar.*` of an `ar` archive.

    Raises:
        ValueError: it is none.
    """
    contents = path.read_bytes()
    at = len(b"!<arch>\n")
    while at + AR_HEADER <= len(contents):
        header = contents[at : at + AR_HEADER]
        size = int(header[48:58]) if header[48:58].strip().isdigit() else 0
        at += AR_HEADER
        if header.startswith(b"data.tar"):
            return io.BytesIO(contents[at : at + size])
        at += size + size % 2
    raise ValueError(f"{path} is no Debian package; delete it to fetch it anew")
