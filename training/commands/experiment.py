"""Run one of the paper's comparisons on a folder of pictures: train what is missing, measure, write a JSON file.

Stopped by Ctrl-C, the same command goes on. A folder with a table captions.tsv (columns file and held_out, by tabs)
says itself which pictures are held out.
"""

import argparse
import logging
import sys
from pathlib import Path

from .arguments import file_path

EMBEDDED = Path(__file__).resolve().parents[2] / "models"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "name",
        choices=("priors", "first-stages", "completions", "orders", "control", "blocks"),
        help="which comparison",
    )
    parser.add_argument("folder", type=file_path, help="folder of pictures")
    parser.add_argument("--size", choices=("tiny", "small", "paper"), default="small", help="how much is trained")
    parser.add_argument("--output", type=file_path, default=Path("runs/experiments"), help="folder of what is trained")
    parser.add_argument("--results", type=file_path, help="folder of the JSON files; the output folder if left out")
    parser.add_argument("--document", type=file_path, help="also write all results there into this Markdown file")
    parser.add_argument(
        "--vqgan", type=file_path, required=True,
        help="bundle guided by edges, whose codes priors learn; emoji-prior.yaml and what it names make one",
    )  # fmt: skip
    parser.add_argument(
        "--clip", type=file_path, default=EMBEDDED / "emoji-clip.safetensors",
        help="CLIP whose features compare pictures",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Run it; 0 when done, 130 when stopped."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    from ..experiments.document import EXPERIMENTS, write_document
    from ..experiments.laboratory import Laboratory
    from ..experiments.scale import SCALES

    results = args.results or args.output
    lab = Laboratory(args.folder, args.output, SCALES[args.size], args.vqgan, args.clip, results)
    print(f"--size {args.size} wants {SCALES[args.size].wants}")
    result = EXPERIMENTS[args.name].run(lab)
    path = results / f"{args.name}.json"
    result.save(path)
    for claim in result.claims:
        print(claim.words, claim.verdict)
    print(path)
    if args.document:
        write_document(results, args.document)
    return 0
