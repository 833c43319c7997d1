"""Make the data that training reads: shards of a folder, or the drawings that the embedded models learn from.

shard packs a folder of pictures into tar files (WebDataset) that many machines can train from. They are written in
parallel, each whole or not at all; the same command again goes on where it was stopped and brings them up to date.
manifest.json counts them. Training takes OUT as data.folder, or the address it was copied to.

emoji fetches public sets of icons and clip art (100 MB) and draws them with names and keywords in English and Spanish.
Their authors ask for credit: it prints licenses and names. The same command again goes on where it was stopped.
"""

import argparse
import logging
import sys
from pathlib import Path

from .arguments import file_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="{shard,emoji}")
    shard = actions.add_parser("shard", help="write FOLDER as tar files below OUT")
    shard.add_argument("folder", type=file_path, metavar="FOLDER", help="pictures; x.txt beside x.jpg is its caption")
    shard.add_argument("output", type=file_path, metavar="OUT", help="folder for the tar files")
    shard.add_argument(
        "--maps", action="append", default=[], metavar="NAME=FOLDER",
        help="a folder of condition maps, such as depth=maps/depth: that of a/b.jpg is a/b.png there; may be repeated",
    )  # fmt: skip
    shard.add_argument("--validation", type=float, default=0.08, help="share held out (default 0.08)")
    shard.add_argument(
        "--variants", default="", help="regular expression; names equal after removing it stay on one side of the split"
    )
    shard.add_argument("--megabytes", type=int, default=256, help="size of a tar file (default 256)")
    shard.add_argument("--pictures", type=int, default=10_000, help="at most so many in a tar file (default 10000)")
    emoji = actions.add_parser("emoji", help="draw eleven public sets of named drawings below OUT")
    emoji.add_argument("output", type=file_path, metavar="OUT", help="folder for the drawings and captions.tsv")
    emoji.add_argument("--style", action="append", default=[], help="only this set; may be repeated")
    emoji.add_argument("--size", type=int, default=256, help="pixels a side (default 256)")
    for action in (shard, emoji):
        action.add_argument("--workers", type=int, default=4, help="threads (default 4)")


def run(args: argparse.Namespace) -> int:
    """Write the shards or the drawings; 0 when done."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for name in ("megabytes", "pictures", "workers", "size"):
        if getattr(args, name, 1) < 1:
            raise ValueError(f"--{name} is {getattr(args, name)}; it must be at least 1")
    return make_shards(args) if args.action == "shard" else make_drawings(args)


def make_shards(args: argparse.Namespace) -> int:
    """`data shard`."""
    from ..config.runs import DataConfig
    from ..engine.lock import locked_folder
    from ..shards.writing import write_shards

    config = DataConfig(folder=str(args.folder), validation=args.validation, variants=args.variants)
    with locked_folder(args.output) as output:
        shards = write_shards(
            config, output, named_folders(args.maps), args.megabytes * 2**20, args.pictures, args.workers
        )
    print(f"{sum(shard.items for shard in shards)} pictures in {len(shards)} tar files below {args.output}")
    return 0


def make_drawings(args: argparse.Namespace) -> int:
    """`data emoji`."""
    from ..emoji.build import build_drawings
    from ..emoji.packages import read_packages
    from ..engine.lock import locked_folder

    with locked_folder(args.output) as output:
        counts = build_drawings(read_packages(), output, args.style, args.size, args.workers)
    print(f"{sum(counts.values())} drawings in {len(counts)} styles below {args.output}")
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
