"""Put the trained stages into one file that an artist picks by name.

Figures, license and origin go into the file and stay with it.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import file_path

if TYPE_CHECKING:
    from torch import Tensor

    from ...core.bundle import Bundle

MOST, AT_ONCE = 500, 4  # pictures to calibrate by


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--vqgan", type=file_path, required=True, help="picture VQGAN, as `train vqgan` wrote it")
    parser.add_argument("--prior", type=file_path, required=True, help="prior trained on it")
    parser.add_argument("--condition", type=file_path, help="VQGAN that encodes the condition, if there is one")
    parser.add_argument("--output", type=file_path, required=True, help="the bundle to write (.safetensors, fp16)")
    parser.add_argument(
        "--calibrate", type=file_path, metavar="FOLDER",
        help="held-out pictures: what they reach goes into the file, so that samples can be judged in percents of it",
    )  # fmt: skip
    parser.add_argument("--license", default="", help="licence of the weights, kept in the file")
    parser.add_argument("--trained-on", default="", help="what they were trained on, kept in the file")


def run(args: argparse.Namespace) -> int:
    """Write the bundle and say its size; 0 when done."""
    from ...core.bundle import Bundle
    from ...core.bundle_file import build_prior, build_vocabulary, check_stages, save_bundle, stage_fingerprints
    from ...core.inspection import inspect_model
    from ...core.loading import load_condition_vqgan, load_vqgan
    from ...core.storage.model_file import read_model_file

    file, contents = read_model_file(args.prior), inspect_model(args.prior)
    config = contents.condition
    if config is None:
        raise ValueError(f"{args.prior.name} does not say what guides it; train on with `train prior` to write it anew")
    vqgan = load_vqgan(args.vqgan)
    condition = load_condition_vqgan(args.condition) if args.condition else None
    if condition is None and config.kind == "low-resolution":
        condition = vqgan
    files = {"vqgan": args.vqgan, "condition_vqgan": args.condition or args.vqgan}
    check_stages(str(args.prior), contents.stages, files, stage_fingerprints(vqgan, condition))
    if not contents.stages and contents.kind == "prior":
        print(f"{args.prior} does not say which VQGAN it was trained on: that it was {args.vqgan} is not checked")
    bundle = Bundle(vqgan, build_prior(file), config, condition, vocabulary=build_vocabulary(file))
    if args.calibrate:
        bundle = replace(bundle, reached=calibrate(bundle, args.calibrate))
    save_bundle(args.output, bundle, half=True, license=args.license, trained_on=args.trained_on)
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.1f} MB")
    return 0


def calibrate(bundle: Bundle, folder: Path) -> dict[str, Tensor]:
    """The percentiles [101] of `scores_of_real`, by name, over the pictures of a folder, at most `MOST` of them."""
    import torch
    from torch.utils.data import DataLoader
    from tqdm import tqdm

    from ...core.calibration import scores_of_real
    from ...core.images.metrics import percentiles
    from ..config.data import DataConfig
    from ..data.folder import ImageViews, find_images
    from ..stages.reconstructions import evenly_spaced

    config = DataConfig(folder=str(folder), size=bundle.image_size)
    views = ImageViews(find_images(config), config, 0, augment=False)
    chosen = [(0, i) for i in evenly_spaced(len(views), MOST)]
    loader = DataLoader(views, AT_ONCE, sampler=chosen, generator=torch.Generator())
    found = [scores_of_real(bundle, batch["color"]) for batch in tqdm(loader, "calibrating", disable=None)]
    return {name: percentiles(torch.cat([scores[name] for scores in found])) for name in found[0]}
