"""Measure a trained stage on the held-out pictures, or made pictures beside real ones: the figures of a model card.

vqgan: PSNR (dB), SSIM, the share of the codes used. prior: nats per code, beside what knowing only the
frequencies of the codes (unigram) or nothing at all (uniform) would give; and of samples, how far two seeds differ
and how well they keep to what guides them. sketch: nats per code as more and more guides, and whether samples keep to
style, words, colors and lines. pictures: FID, KID, precision and recall of what `generate` made.
"""

import argparse
import dataclasses
import json
import logging
import sys
from pathlib import Path

from torch import Tensor

from ..config.runs import PriorRun, VQGANRun
from ..config.sketch import SketchRun
from ..config.yaml import load_config
from .arguments import file_path

SAMPLED_IMAGES = 256  # held-out drawings that the figures of samples are taken from


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "stage",
        choices=("vqgan", "prior", "sketch", "pictures"),
        help="what the YAML file trains; or pictures, to compare them",
    )
    parser.add_argument(
        "config", type=file_path,
        help="the YAML file of the run: names the pictures and the split; or the folder that `generate` wrote",
    )  # fmt: skip
    parser.add_argument("--reference", default="", help="real pictures: a folder, or the address of shards")
    parser.add_argument("--size", type=int, default=256, help="pixels at which pictures are compared (default 256)")
    parser.add_argument("--batch", type=int, default=64, help="pictures at once that are compared (default 64)")
    parser.add_argument("--inception", type=file_path, help="file of the Inception weights of torch-fidelity")
    parser.add_argument(
        "--bundle",
        type=file_path,
        help="measure the part of this bundle instead of the weights in the run's output folder",
    )
    parser.add_argument(
        "--clip", type=file_path, help="sketch: a CLIP that judges whether samples show the words asked for"
    )
    parser.add_argument("--number", type=int, default=64, help="sketch: samples for each figure (default 64)")
    parser.add_argument(
        "--sheet", type=file_path, help="also draw held-out pictures and what the model makes of them here"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override one setting of the YAML file"
    )


def run(args: argparse.Namespace) -> int:
    """Print the figures; 0 when done."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    sheet = None
    if args.stage == "pictures":
        from ..stages.fidelity import compare_pictures

        if not args.reference:
            raise ValueError("--reference is missing; name the real pictures to compare with")
        figures = compare_pictures(str(args.config), args.reference, args.size, args.batch, args.inception)
    elif args.stage == "vqgan":
        figures, sheet = measure_vqgan(load_config(VQGANRun, args.config, args.set), args.bundle)
    elif args.stage == "sketch":
        run = load_config(SketchRun, args.config, args.set)
        figures, sheet = measure_sketch(run, args.bundle, args.clip, args.number)
    else:
        figures, sheet = measure_prior(load_config(PriorRun, args.config, args.set), args.bundle)
    if args.sheet and sheet is not None:
        from ...core.images.io import to_pil
        from ..engine.plots import save_image

        save_image(to_pil(sheet.unsqueeze(0))[0], args.sheet)
    if args.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:>16}  {value:.4f}")
    return 0


def measure_vqgan(run: VQGANRun, bundle: Path | None) -> tuple[dict[str, float], Tensor]:
    """Figures of `reconstructions.evaluate_vqgan` and a strip of reconstructions."""
    from ...core.loading import load_condition_vqgan, load_vqgan
    from ..data.pictures import open_pictures
    from ..stages.reconstructions import evaluate_vqgan, reconstruction_strip
    from ..stages.vqgan import load_named_drawings

    open_stage = load_condition_vqgan if run.data.picture != "color" and bundle else load_vqgan
    model = open_stage(bundle or Path(run.output) / "vqgan.safetensors")
    if run.scenes:
        views = load_named_drawings(run)[-1]
    else:
        views = open_pictures(run.data, run.loop.seed, run.output, run.condition).held_out
    return evaluate_vqgan(model, views, run.loop.batch), reconstruction_strip(model, views)


def measure_sketch(
    run: SketchRun, bundle: Path | None, clip: Path | None, number: int
) -> tuple[dict[str, float], Tensor]:
    """Figures and sheet of `sketch_figures.sketch_figures`.

    Raises:
        ValueError: no samples are wanted, or a bundle that knows other styles or is guided by something else.
    """
    import torch

    from ...core.clip.clip_file import open_clip
    from ...core.loading import load_bundle
    from ..data.drawings import read_captions
    from ..stages.sketch import open_sketch_task
    from ..stages.sketch_figures import sketch_figures

    if number < 1:
        raise ValueError(f"--number is {number}; it must be at least 1")
    torch.manual_seed(run.loop.seed)
    whole = load_bundle(bundle or Path(run.output) / "sketch.safetensors")
    task = open_sketch_task(run, whole.vqgan)
    task.adopt(whole)
    judge = open_clip(clip) if clip else None
    return sketch_figures(task, whole, read_captions(run.data.folder), number, judge)


def measure_prior(run: PriorRun, bundle: Path | None) -> tuple[dict[str, float], Tensor]:
    """Figures of `prior.PriorTask.validate` and `samples.sample_figures`, and a grid of samples."""
    from ...core.bundle_file import check_stages, load_prior
    from ...core.inspection import inspect_model
    from ...core.loading import load
    from ..engine.loop import make_accelerator
    from ..stages.figures import sample_figures, sample_grid
    from ..stages.prior import PREVIEW_IMAGES, PriorTask, load_codes, load_stages, load_views, stage_files

    weights, whole = bundle or Path(run.output) / "prior.safetensors", None
    if bundle:
        whole = load(bundle)
        config = whole.condition_config
        if config.kind != run.condition.kind:
            raise ValueError(
                f"{bundle.name} is guided by {config.kind}, the run of the YAML file by {run.condition.kind}; give the "
                "file it was trained with"
            )
        of_its_own = str(bundle) if whole.condition_vqgan is not None else ""
        dropout = run.condition.dropout if config.unconditional else 0.0
        condition = dataclasses.replace(
            run.condition, vqgan=of_its_own, factor=config.factor or run.condition.factor, dropout=dropout
        )
        run = dataclasses.replace(run, vqgan=str(bundle), condition=condition)
    accelerator = make_accelerator(run.loop)
    stages, views = load_stages(run, accelerator), load_views(run)
    learned = dataclasses.replace(run.condition, dropout=0.0)  # no free pictures are: only held-out ones are measured
    codes = load_codes(dataclasses.replace(run, condition=learned), views, accelerator, *stages)
    task = PriorTask(run, *codes, *stages, (whole.prior if whole else load_prior(weights)).state_dict())
    check_stages(str(weights), inspect_model(weights).stages, stage_files(run), task.stages)
    whole = whole or task.bundle()
    sampled = sample_figures(whole, task.held_out, views[1], SAMPLED_IMAGES, run.loop.seed)
    return task.validate() | sampled, sample_grid(whole, task.held_out, PREVIEW_IMAGES, run.loop.seed)
