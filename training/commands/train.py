"""Train a VQGAN (stage 1), a prior (stage 2) or a small CLIP from a YAML file; Ctrl-C stops, the same again resumes."""

import argparse
import logging
import sys

from .arguments import file_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "stage",
        choices=("vqgan", "prior", "sketch", "clip"),
        help="vqgan: pictures to codes; prior: codes to pictures; sketch: the same by style, words, colors and lines; "
        "clip: words",
    )
    parser.add_argument("config", type=file_path, help="YAML file; training/configs holds commented examples")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="override one setting, such as --set data.folder=photos --set loop.steps=500; may be repeated",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Train or resume; 0 when finished, 130 when stopped by Ctrl-C after saving."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.raiseExceptions = False  # a closed pipe ends what is said, not the run
    from ..config.runs import ClipRun, PriorRun, VQGANRun
    from ..config.yaml import load_config

    if args.stage == "vqgan":
        from ..stages.vqgan import train_vqgan

        finished = train_vqgan(load_config(VQGANRun, args.config, args.set))
    elif args.stage == "clip":
        from ..stages.clip import train_clip

        finished = train_clip(load_config(ClipRun, args.config, args.set))
    elif args.stage == "sketch":
        from ..config.sketch import SketchRun
        from ..stages.sketch import train_sketch

        finished = train_sketch(load_config(SketchRun, args.config, args.set))
    else:
        from ..stages.prior import train_prior

        finished = train_prior(load_config(PriorRun, args.config, args.set))
    return 0 if finished else 130
