"""List the published models that load as they are, say which are at hand, and fetch one by name.

They are not ours: their authors' terms hold, and for most of them no license of the weights is stated.
"""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ...downloads.catalogue import Published, PublishedFile, read_catalogue
from ...downloads.download import OnBytes
from ...downloads.fetch import fetch_model
from .arguments import file_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("action", nargs="?", choices=("download",), help="fetch NAME into the first folder")
    parser.add_argument("name", nargs="?", metavar="NAME", help="a name from the list")
    parser.add_argument(
        "--folder",
        type=file_path,
        action="append",
        help="where models lie (default: models); may be given several times",
    )


def run(args: argparse.Namespace) -> int:
    """List or fetch; 0 when done."""
    catalogue, folders = read_catalogue(), args.folder or [Path("models")]
    if args.action is None:
        for line in listing(catalogue, folders):
            print(line)
        return 0
    if args.name not in catalogue:
        raise ValueError(f"model {args.name!r} is not in the list; choose from {', '.join(catalogue)}")
    fetch(catalogue[args.name], folders[0])
    return 0


def listing(catalogue: dict[str, Published], folders: list[Path]) -> list[str]:
    """A line for each model: name, size, license, what it is, and where its weights are."""
    rows = []
    for published in catalogue.values():
        size, found = published.files[0].size, published.found_in(folders)
        fetched = "can be fetched" if all(file.addresses for file in published.files) else published.page
        rows.append(
            (published.name, f"{size / 1e6:.0f} MB" if size else "", published.license, published.about,
             str(found) if found else fetched)
        )  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]) for row in rows]


def fetch(published: Published, folder: Path) -> None:
    """Fetch one model with a bar for each file; errors as `fetch_model`."""
    from tqdm import tqdm

    print(f"{published.name}: {published.summary}")
    with ExitStack() as bars:

        def on_file(file: PublishedFile) -> OnBytes:
            bar = bars.enter_context(tqdm(unit="B", unit_scale=True, desc=file.name, file=sys.stdout, disable=None))
            return lambda done, total: show(bar, done, total)

        weights = fetch_model(published, folder, on_file)
    print(f"{weights} is ready")


def show(bar: Any, done: int, total: int) -> None:
    """Move a progress bar to `done` of `total`."""
    bar.total = total or None
    bar.update(done - bar.n)
