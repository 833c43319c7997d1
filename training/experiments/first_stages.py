"""Table 3 and figure 10: first stages at equal parameters and steps, by the bits that they spend."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ...core.autoencoders.two_level import TwoLevelConfig
from ...core.clip.clip_file import open_clip
from ...core.clip.scoring import embed_images
from ...core.images.io import to_pil
from ...core.images.metrics import psnr, ssim
from ..config.runs import DVAELossConfig, StageConfig, VQGANLossConfig
from ..data.folder import ImageViews
from ..data.stream import once
from ..engine.plots import draw_points, image_grid, save_image
from ..stages.fidelity import MIN_PICTURES, compare_pictures, inception_weights
from ..stages.reconstructions import TrainedStage, uses_of
from .intervals import bootstrap, kernel_distance
from .kept_views import KeptViews
from .laboratory import Laboratory
from .result import Claim, Published, Result
from .scale import Scale

PUBLISHED = Published(
    "First stages (table 3, figure 10)",
    ("model", "cells", "codes", "FID to validation", "FID to training"),
    (
        ("VQVAE-2", "64x64 & 32x32", "512", "n/a", "~10"),
        ("DALL-E", "32x32", "8192", "32.01", "33.88"),
        ("VQGAN", "16x16", "1024", "7.94", "10.54"),
        ("VQGAN", "16x16", "16384", "4.98", "7.41"),
        ("VQGAN, Gumbel", "32x32", "8192", "1.49", "3.24"),
        ("VQGAN, two levels", "64x64 & 32x32", "512", "1.45", "2.78"),
    ),
    "ImageNet at 256 pixels, Inception's features. The rows spend between 2,560 and 46,080 bits a picture.",
)
SHOWN = 8  # pictures in a strip
INCEPTION_WIDTH = 2048  # a covariance of so many features takes as many pictures


class System(NamedTuple):
    """A row of the table."""

    model: StageConfig
    loss: VQGANLossConfig


def systems(scale: Scale) -> dict[str, System]:
    """Shape and losses of each first stage; a VQVAE has squared error alone."""
    steps, few, fine = scale.stage_steps, scale.stage, scale.fine_stage
    start = steps // 2
    plain = VQGANLossConfig(l1=0.0, l2=1.0, perceptual="none", adversarial_weight=0.0)
    crisp = VQGANLossConfig(
        l1=1.0, perceptual=scale.perceptual, adversarial_weight=0.4, discriminator_channels=16,
        discriminator_start=start // 2, adversarial_start=start, adversarial_ramp=max(1, steps // 8),
    )  # fmt: skip
    return {
        "VQVAE": System(few, plain),
        "VQGAN": System(few, crisp),
        "VQGAN, many codes": System(replace(few, codebook_size=scale.many_codes), crisp),
        "VQVAE, f8": System(fine, plain),
        "VQGAN, Gumbel, f8": System(replace(fine, codebook="gumbel", codebook_size=2 * fine.codebook_size), crisp),
        "dVAE, f8": System(scale.dvae, VQGANLossConfig()),
        "VQVAE-2": System(scale.two_level, plain),
        "VQGAN, two levels": System(scale.two_level, crisp),
    }


def run(lab: Laboratory) -> Result:
    """Train each first stage and look at what becomes of held-out pictures."""
    scale, (learned, held_out) = lab.scale, lab.stage_views
    rows, strips, quality, clip = [], [], {}, open_clip(lab.clip).clip
    cooling = DVAELossConfig(kl_steps=max(1, scale.stage_steps // 10), temperature_steps=max(1, scale.stage_steps // 2))
    for name, (config, loss) in systems(scale).items():
        if scale.systems and name not in scale.systems:
            continue
        folder = "first-stages/" + name.replace(",", "").replace(" ", "-")
        model = lab.learn_stage(folder, config, loss, cooling)
        given, made, used = reconstruct(model, held_out, scale.stage_batch)
        quality[name] = psnr(given, made)
        side = scale.stage_pixels // config.stride
        row = {
            "system": name, "cells": cells_in_words(config, side), "codes": codes_of(config),
            "bits a picture": round(side**2 * math.log2(config.codebook_size)),
            "parameters": sum(p.numel() for p in model.parameters()),
            "PSNR": quality[name].mean().item(), "SSIM": ssim(given, made).mean().item(), "codes used": used,
        }  # fmt: skip
        row["kernel distance (CLIP given)"] = kernel_distance(*(embed_images(clip, images) for images in (given, made)))
        rows.append(row | inception_distances(lab, folder, given, made))
        strips.append(made[:SHOWN])
    lab.show("first-stages", image_grid(torch.cat([given[:SHOWN], *strips]), min(SHOWN, len(given))))
    points = {row["system"]: (row["bits a picture"], row["PSNR"]) for row in rows}
    draw_points(points, ("bits a picture", "PSNR, dB"), lab.results / "first-stages.png")
    pairs = (
        ("At equal bits the adversary and its features cost decibels.", "VQGAN", "VQVAE"),
        ("So they do with two levels.", "VQGAN, two levels", "VQVAE-2"),
        ("Four times the cells give more decibels.", "VQVAE", "VQVAE, f8"),
        ("More codes give more decibels.", "VQGAN", "VQGAN, many codes"),
        ("At f8 the VQGAN gives more decibels than DALL-E's dVAE.", "dVAE, f8", "VQGAN, Gumbel, f8"),
        ("Two levels give more decibels than the Gumbel VQGAN of one.", "VQGAN, Gumbel, f8", "VQGAN, two levels"),
    )
    claims = [
        Claim(words, f"PSNR of {less} minus {more}, dB", bootstrap(quality[less] - quality[more]))
        for words, less, more in pairs
        if less in quality and more in quality
    ]
    setting = (
        f"{len(learned)} drawings to learn from, {len(held_out)} held out, {scale.stage_pixels} pixels; "
        f"{scale.stage_steps} steps of {scale.stage_batch}, the same views for all, one seed; codes begin by k-means "
        "and restart, but Gumbel's and the dVAE's, whose schedules are shortened with the run. Two levels have the "
        f"VQGAN's blocks. Perceptual distance of those with an adversary: {scale.perceptual}. In the sheet: the "
        "originals, then a row for each system of the table."
    )
    return Result("first-stages", setting, rows, claims)


def inception_distances(lab: Laboratory, name: str, given: Tensor, made: Tensor) -> dict[str, float]:
    """KID, and of pictures enough FID, in Inception's features; nothing where torch-fidelity's weights of it are not at
    hand."""
    if len(given) < MIN_PICTURES or not inception_weights().is_file():
        return {}
    folders = lab.output / "given", lab.output / name / "made"
    for folder, images in zip(folders, (given, made), strict=True):
        folder.mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(to_pil(images)):
            save_image(picture, folder / f"{number:06d}.png")
    figures = compare_pictures(str(folders[1]), str(folders[0]), given.shape[-1], 64, None)
    fid = {"FID (Inception)": figures["fid"]} if len(given) >= INCEPTION_WIDTH else {}
    return {"KID (Inception)": figures["kid"]} | fid


def cells_in_words(config: StageConfig, side: int) -> str:
    """The grids of a picture with so many cells a side."""
    fine = f"{2 * side}x{2 * side} & " if isinstance(config, TwoLevelConfig) else ""
    return f"{fine}{side}x{side}"


def codes_of(config: StageConfig) -> int:
    """Of a grid."""
    return config.grid_codes if isinstance(config, TwoLevelConfig) else config.codebook_size


@torch.inference_mode()
def reconstruct(model: TrainedStage, pictures: ImageViews | KeptViews, batch: int) -> tuple[Tensor, Tensor, int]:
    """Pictures [N, 3, H, W] in -1..1, what becomes of them, and how many codes that takes, of all grids."""
    given, made, used = [], [], torch.zeros(sum(codebook.size for codebook in model.codebooks))
    for views in once(pictures, batch, 0, 1):
        out = model(views["color"].to(model.device))
        given.append(views["color"])
        made.append(out.image.clamp(-1, 1).cpu())
        used += uses_of(out.levels, model.codebooks).cpu()
    return torch.cat(given), torch.cat(made), int((used > 0).sum())
