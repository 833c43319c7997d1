"""Figure 11: halves of pictures completed by Image-GPT, color by color, and by a transformer over a VQGAN's codes."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.autoencoders.palette import Palette
from ...core.bundle import Bundle
from ...core.canvas.canvas import Canvas
from ...core.canvas.codec import encode_canvas
from ...core.clip.clip_file import open_clip
from ...core.clip.scoring import embed_images
from ...core.conditions.kinds import ConditionConfig
from ..data.codes import CodeDataset
from ..data.folder import ImageViews
from ..engine.plots import image_grid
from ..stages.prior import PriorTask
from .intervals import bootstrap, kernel_distance
from .laboratory import Laboratory, seconds_a_step
from .priors import count_parameters
from .result import Claim, Published, Result

PUBLISHED = Published(
    "Completions (figure 11)",
    ("model", "pixels", "cells"),
    (("Image-GPT", "32x32 to 64x64", "1,024 to 4,096 colors"), ("VQGAN and transformer", "256x256", "16x16 codes")),
    "The paper shows completions and gives no figure for them; its codes make sampling faster by orders of magnitude.",
)
SAMPLES, SHOWN = 3, 6  # of each picture in the sheet, and how many pictures


def run(lab: Laboratory) -> Result:
    """Train both for the same processor time and let them complete the lower halves of held-out drawings."""
    scale = lab.scale
    bundles, seconds, steps = train_both(lab)
    clip, learned = open_clip(lab.clip).clip, stacked(lab.pictures(scale.colors_pixels)[0])
    rows, distances, sheets = [], {}, {}
    for name, bundle in bundles.items():
        side = scale.colors_pixels if isinstance(bundle.vqgan, Palette) else scale.pixels
        originals = stacked(lab.pictures(side)[1])
        began = time.process_time()
        made = complete(bundle, originals, 0)
        spent = (time.process_time() - began) / len(originals)
        real, ours = (lower(images, scale.colors_pixels) for images in (originals, made))
        distances[name] = (real - ours).square().mean((1, 2, 3))
        rows.append(
            {"system": name, "cells": f"{bundle.prior.window}x{bundle.prior.window}",
             "parameters": count_parameters(bundle.prior), "steps": steps[name],
             "core seconds a step": seconds[name], "core seconds a completion": spent,
             "kernel distance (CLIP given)": kernel_distance(embed_images(clip, real), embed_images(clip, ours)),
             "squared error": distances[name].mean().item()}
        )  # fmt: skip
        few = originals[:SHOWN]
        sheets[name] = [few, reconstruct(bundle, few)] + [complete(bundle, few, 1 + seed) for seed in range(SAMPLES)]
    nearest = nearest_of(resized(sheets["codes"][2], scale.colors_pixels), learned)
    columns = [enlarged(image, scale.pixels) for image in (*sheets["colors"], *sheets["codes"], nearest)]
    lab.show("completions", image_grid(torch.cat(columns), min(SHOWN, len(originals))))
    apart = bootstrap(distances["codes"] - distances["colors"])
    claims = [Claim("Codes complete closer to the original than colors.", "squared error, codes minus colors", apart)]
    setting = (
        f"{len(learned)} drawings to learn from, {len(originals)} held out. Colors: {scale.colors} of them on "
        f"{scale.colors_pixels}x{scale.colors_pixels} pixels. Codes: the given VQGAN at {scale.pixels} pixels. Equal "
        "processor time for both priors, one seed, temperature 1. Lower halves are compared at the colors' resolution; "
        "likelihoods can't be compared. In the sheet: for colors, then for codes, the original, what the first stage "
        f"keeps, and {SAMPLES} completions; last the training drawing nearest to the first completion by codes."
    )
    return Result("completions", setting, rows, claims)


def train_both(lab: Laboratory) -> tuple[dict[str, Bundle], dict[str, float], dict[str, int]]:
    """Bundles, processor seconds a step and steps, by what their priors predict."""
    scale = lab.scale
    learned, held_out = lab.pictures(scale.colors_pixels)
    palette = Palette.of_images(stacked(learned)[: scale.palette_pictures], scale.colors)
    stages = {"colors": palette, "codes": lab.vqgans[0]}
    codes = {"colors": tuple(color_codes(palette, some) for some in (learned, held_out)), "codes": lab.codes("none")}
    models = {"codes": scale.transformer, "colors": replace(scale.transformer, norm="rms", activation="quick-gelu")}
    tasks = {
        name: PriorTask(lab.prior_run("timing", models[name], "none"), *codes[name], stage, None)
        for name, stage in stages.items()
    }
    seconds = lab.measured_once(
        "completions", lambda: {n: seconds_a_step([task], task.held_out, scale.batch)[0] for n, task in tasks.items()}
    )
    steps = {"codes": scale.steps, "colors": max(2, round(scale.steps * seconds["codes"] / seconds["colors"]))}
    bundles = {}
    for name, stage in stages.items():
        run = lab.prior_run(
            f"completions/{name}", models[name], "none", steps=steps[name], learning_rate=scale.rates[0]
        )
        prior = lab.learn_prior(run, "none", (*codes[name], stage, None))
        condition = ConditionConfig(kind="none", offset=stage.config.codebook_size)
        bundles[name] = Bundle(stage, prior, condition)
    return bundles, seconds, steps


def stacked(views: ImageViews) -> Tensor:
    """All of them as first seen, [N, 3, H, W]."""
    return torch.stack([views[0, index]["color"] for index in range(len(views))])


@torch.inference_mode()
def color_codes(palette: Palette, views: ImageViews) -> CodeDataset:
    """The colors of pictures, one view each."""
    cells = palette.encode_indices(stacked(views)).flatten(1)[None]  # [1, N, n]
    return CodeDataset(cells.clone(), cells[..., :0].clone())


@torch.inference_mode()
def complete(bundle: Bundle, originals: Tensor, seed: int) -> Tensor:
    """The upper halves kept, the lower ones drawn."""
    canvas = encode_canvas(bundle.vqgan, originals)
    rows = canvas.indices.shape[1]
    known = canvas.known & (torch.arange(rows) < rows // 2)[:, None]
    return bundle.sample(canvas=Canvas(canvas.indices, known), seed=1000 * seed).images


@torch.inference_mode()
def reconstruct(bundle: Bundle, images: Tensor) -> Tensor:
    """What the first stage keeps of them."""
    return bundle.decode(encode_canvas(bundle.vqgan, images))


def resized(images: Tensor, side: int) -> Tensor:
    """Whole images at `side` pixels."""
    return F.interpolate(images, (side, side), mode="area") if images.shape[-1] != side else images


def lower(images: Tensor, side: int) -> Tensor:
    """Their lower halves at that resolution, [N, 3, side / 2, side]."""
    return resized(images, side)[:, :, side // 2 :]


def nearest_of(images: Tensor, learned: Tensor) -> Tensor:
    """The training pictures nearest to each, by pixels."""
    return learned[torch.cdist(images.flatten(1), learned.flatten(1)).argmin(1)]


def enlarged(images: Tensor, side: int) -> Tensor:
    """Every pixel as a square."""
    return F.interpolate(images, (side, side), mode="nearest")
