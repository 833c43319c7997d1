"""List the published models that load as they are, say which are at hand, and fetch one by name.

They are not ours: their authors' terms hold, and for most of them no license of the weights is stated.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from ...downloads.catalogue import Published, differences, read_catalogue
from ...downloads.download import download
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
    fetch_model(catalogue[args.name], folders[0])
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


def fetch_model(published: Published, folder: Path) -> None:
    """Fetch the files of one model into a folder and look whether they are what the catalogue says.

    Raises:
        ValueError: it has to be fetched by hand; as `download.download`; or it is another model.
    """
    from tqdm import tqdm

    from ...core.inspection import inspect_model

    lacking = [file.name for file in published.files if not file.addresses]
    if lacking:
        raise ValueError(
            f"{published.name} can't be fetched by itself; open {published.page} and save {' and '.join(lacking)} "
            f"in {folder}"
        )
    print(f"{published.name}: {published.about}. Licence of the weights: {published.license}. {published.page}")
    for file in published.files:
        if (folder / file.name).is_file():
            print(f"{folder / file.name} is there already")
            continue
        with tqdm(unit="B", unit_scale=True, desc=file.name, file=sys.stdout, disable=None) as bar:
            download(file, folder / file.name, lambda done, total, bar=bar: show(bar, done, total))
    weights = folder / published.files[0].name
    if different := differences(published, inspect_model(weights)):
        raise ValueError(f"{weights} is another model than expected: {', '.join(different)}; remove it")
    print(f"{weights} is ready")


def show(bar: Any, done: int, total: int) -> None:
    """Move a progress bar to `done` of `total`."""
    bar.total = total or None
    bar.update(done - bar.n)
