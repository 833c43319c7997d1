"""Train a VQGAN (stage 1), a prior (stage 2) or a small CLIP from a YAML file; Ctrl-C stops, the same again resumes."""

import argparse
import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .arguments import file_path

WEIGHTS = {  # what a run leaves that is ready for use
    "vqgan": "vqgan.safetensors", "prior": "bundle.safetensors", "sketch": "sketch.safetensors",
    "clip": "clip.safetensors",
}  # fmt: skip


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
    parser.add_argument(
        "--install", metavar="FILE",
        help="copy the weights there when the run ends or is stopped, such as models/vqgan/mine.safetensors",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Train or resume; 0 when finished, 130 when stopped by Ctrl-C after saving."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.raiseExceptions = False  # a closed pipe ends what is said, not the run
    from ..engine.distributed import lost_processes_told, rank_and_world

    config, train = stage_of(args)
    with lost_processes_told():
        finished = train(config)
    if args.install and rank_and_world()[0] == 0:
        install(Path(config.output) / WEIGHTS[args.stage], Path(args.install))
    return 0 if finished else 130


def stage_of(args: argparse.Namespace) -> tuple[Any, Callable[[Any], bool]]:
    """The settings of a run, and what trains by them."""
    from ..config.runs import ClipRun, PriorRun, VQGANRun
    from ..config.yaml import load_config

    if args.stage == "vqgan":
        from ..stages.vqgan import train_vqgan

        return load_config(VQGANRun, args.config, args.set), train_vqgan
    if args.stage == "clip":
        from ..stages.clip import train_clip

        return load_config(ClipRun, args.config, args.set), train_clip
    if args.stage == "sketch":
        from ..config.sketch import SketchRun
        from ..stages.sketch import train_sketch

        return load_config(SketchRun, args.config, args.set), train_sketch
    from ..stages.prior import train_prior

    return load_config(PriorRun, args.config, args.set), train_prior


def install(weights: Path, place: Path) -> None:
    """Copy what was learned to where it is used."""
    from ...core.storage.atomic import atomic_write

    with atomic_write(place) as partial:
        shutil.copyfile(weights, partial)
    logging.getLogger("tessera").info("the weights are in %s", place)
