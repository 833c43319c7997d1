"""Pack a folder of pictures into tar files (WebDataset) that many machines can train from.

The tar files are written in parallel, each whole or not at all; the same command again goes on where it was stopped and
brings them up to date. manifest.json counts them. Training takes OUT as data.folder, or the address it was copied to.
"""

import argparse
import logging
import sys
from pathlib import Path

from .arguments import file_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("action", choices=("shard",), help="shard: write FOLDER as tar files below OUT")
    parser.add_argument("folder", type=file_path, metavar="FOLDER", help="pictures; x.txt beside x.jpg is its caption")
    parser.add_argument("output", type=file_path, metavar="OUT", help="folder for the tar files")
    parser.add_argument(
        "--maps", action="append", default=[], metavar="NAME=FOLDER",
        help="a folder of condition maps, such as depth=maps/depth: that of a/b.jpg is a/b.png there; may be repeated",
    )  # fmt: skip
    parser.add_argument("--validation", type=float, default=0.08, help="share held out (default 0.08)")
    parser.add_argument(
        "--variants", default="", help="regular expression; names equal after removing it stay on one side of the split"
    )
    parser.add_argument("--megabytes", type=int, default=256, help="size of a tar file (default 256)")
    parser.add_argument("--pictures", type=int, default=10_000, help="at most so many in a tar file (default 10000)")
    parser.add_argument("--workers", type=int, default=4, help="threads (default 4)")


def run(args: argparse.Namespace) -> int:
    """Write the shards; 0 when done."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    from ..config.runs import DataConfig
    from ..engine.lock import locked_folder
    from ..shards.writing import write_shards

    for name in ("megabytes", "pictures", "workers"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} is {getattr(args, name)}; it must be at least 1")
    config = DataConfig(folder=str(args.folder), validation=args.validation, variants=args.variants)
    with locked_folder(args.output) as output:
        shards = write_shards(
            config, output, named_folders(args.maps), args.megabytes * 2**20, args.pictures, args.workers
        )
    print(f"{sum(shard.items for shard in shards)} pictures in {len(shards)} tar files below {args.output}")
    return 0


def named_folders(texts: list[str]) -> dict[str, Path]:
    """NAME=FOLDER texts as a table."""
    folders = {}
    for text in texts:
        name, separator, folder = text.partition("=")
        if not separator or not name.isidentifier():
            raise ValueError(f"--maps {text} is not NAME=FOLDER; write --maps depth=maps/depth")
        folders[name.lower()] = file_path(folder)
    return folders
