"""Measure speed and memory against named baselines, all in the same run, on random weights."""

import argparse
import importlib

from ..training.commands.arguments import file_path

# name -> what it measures; each is a module here with measure(quick) -> Report
BENCHMARKS = {
    "sampling": "256 cells after a 256-token condition",
    "coupling": "what a change of temperature changes, one seed",
    "embedded": "several codes a pass on the embedded model",
    "equality": "one seed, the same codes however the embedded model is run",
    "busy": "sampling beside processes that keep the processor busy",
    "variations": "eight pictures of one condition",
    "window": "a window sliding over 36x64 cells",
    "search": "the nearest of 16384 codes",
    "decode": "codes to a picture of 1024x1024 pixels",
    "guide": "a step of guided synthesis at 256x256 pixels",
    "load": "a released checkpoint of 1 GB",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    names = "; ".join(f"{name}: {about}" for name, about in BENCHMARKS.items())
    parser.add_argument("name", nargs="?", help=names)
    parser.add_argument("--all", action="store_true", help="all benchmarks, one after the other")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, measures nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON object a benchmark instead of tables")
    parser.add_argument("--write", type=file_path, metavar="FILE", help="also write the tables to a markdown file")


def run(args: argparse.Namespace) -> int:
    """Measure and print; ValueError for an unknown name."""
    if args.all == (args.name is not None):
        raise ValueError(f"name one benchmark ({', '.join(BENCHMARKS)}) or give --all")
    if args.name is not None and args.name not in BENCHMARKS:
        raise ValueError(f"benchmark '{args.name}' is unknown; choose from {', '.join(BENCHMARKS)}")
    from .report import machine

    sections = []
    for name in BENCHMARKS if args.all else [args.name]:
        report = importlib.import_module(f".{name}", __package__).measure(args.quick)
        sections.append(report.as_markdown())
        print(report.as_json() if args.json else f"{sections[-1]}\n", flush=True)
    if args.write:
        here = machine()
        heading = (
            "# Benchmarks\n\nWritten by `python -m tessera bench --all --write docs/benchmarks.md`, on "
            f"{here['cpu']}, {here['threads']} threads, torch {here['torch']}. Random weights, float32; candidates "
            "take turns and the median counts."
        )
        args.write.parent.mkdir(parents=True, exist_ok=True)
        args.write.write_text("\n\n".join([heading, *sections]) + "\n", encoding="utf-8")
    return 0
