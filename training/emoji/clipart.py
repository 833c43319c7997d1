"""Drawings inside Debian's package of the Open Clip Art Library: SVG files in folders, with titles and keywords."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from .icons import Drawing
from .names import Words, slug
from .packages import members

GROUPS = {
    "animals": "animals-nature", "plants": "animals-nature", "food": "food-drink", "people": "people-body",
    "buildings": "travel-places", "transportation": "travel-places", "recreation": "activities",
    "computer": "objects", "containers": "objects", "education": "objects", "electronics": "objects",
    "office": "objects", "science": "objects", "tools": "objects", "signs_and_symbols": "symbols",
}  # fmt: skip
MOST = 350  # drawings of a group
LARGEST = 400_000  # bytes; what is larger takes minutes to draw
DUBLIN_CORE, RDF = "{http://purl.org/dc/elements/1.1/}", "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"


def clipart_drawings(package: Path) -> Iterator[Drawing]:
    """At most `MOST` drawings of each group, in an order that follows from a hash of their contents."""
    found: dict[str, dict[str, tuple[str, bytes]]] = defaultdict(dict)
    for path, contents in members(package, ".svg"):
        folder = PurePosixPath(path.split("/svg/", 1)[-1]).parts[0]
        if folder in GROUPS and len(contents) <= LARGEST:
            found[GROUPS[folder]][hashlib.sha256(contents).hexdigest()] = (path, contents)
    for group, files in sorted(found.items()):
        for digest, (path, contents) in sorted(files.items())[:MOST]:
            title, keywords = described(contents)
            label = clean(title) or clean(PurePosixPath(path).stem.replace("_", " "))
            words = Words(f"clip:{slug(label)}", group, label, "|".join(keywords))
            yield Drawing(f"{slug(label)[:40]}-{digest[:6]}", words, contents, trim=True)


def described(contents: bytes) -> tuple[str, list[str]]:
    """Title and keywords that an SVG file says of itself; nothing where it can't be read as XML."""
    try:
        root = ElementTree.fromstring(contents)
    except ElementTree.ParseError:
        return "", []
    title = root.find(f".//{DUBLIN_CORE}title")
    subject = root.find(f".//{DUBLIN_CORE}subject")
    listed = subject.iter(f"{RDF}li") if subject is not None else ()
    keywords = {one.text.strip().lower() for one in listed if one.text and one.text.strip()}
    return (title.text or "" if title is not None else ""), sorted(keywords)


def clean(text: str) -> str:
    """A title in lower case, without numbers at its ends."""
    return re.sub(r"^[\d\s_]+|[\d\s_]+$", "", " ".join(text.lower().split()))
