"""Table 3 and figure 10: first stages at equal parameters and steps, by the bits that they spend."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ...core.autoencoders.vqgan import VQGAN, VQGANConfig
from ...core.clip.clip_file import open_clip
from ...core.clip.scoring import embed_images
from ...core.images.metrics import psnr, ssim
from ..config.runs import VQGANLossConfig
from ..data.folder import ImageViews
from ..data.stream import once
from ..engine.plots import image_grid
from .intervals import bootstrap, kernel_distance
from .laboratory import Laboratory
from .result import Claim, Published, Result

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
PLAIN = VQGANLossConfig(l1=0.0, l2=1.0, perceptual="none", adversarial_weight=0.0)
SHOWN = 8  # pictures in a strip


def systems(config: VQGANConfig, steps: int) -> dict[str, tuple[VQGANConfig, VQGANLossConfig]]:
    """Shape and losses of each first stage; f8 has a level less."""
    start = steps // 2
    crisp = VQGANLossConfig(
        l1=1.0, perceptual="features", adversarial_weight=0.4, discriminator_channels=16,
        discriminator_start=start // 2, adversarial_start=start, adversarial_ramp=max(1, steps // 8),
    )  # fmt: skip
    finer = replace(config, channel_mult=config.channel_mult[:-2] + config.channel_mult[-1:])
    return {
        "VQVAE": (config, PLAIN),
        "VQGAN": (config, crisp),
        "VQGAN, 4 times the codes": (replace(config, codebook_size=4 * config.codebook_size), crisp),
        "VQVAE, f8": (finer, PLAIN),
        "VQGAN, Gumbel, f8": (replace(finer, codebook="gumbel", codebook_size=2 * config.codebook_size), crisp),
    }


def run(lab: Laboratory) -> Result:
    """Train each first stage and look at what becomes of held-out pictures."""
    scale, (learned, held_out) = lab.scale, lab.pictures(lab.scale.stage_pixels)
    rows, strips, quality, clip = [], [], {}, open_clip(lab.clip).clip
    chosen = systems(scale.stage, scale.stage_steps)
    chosen = {name: parts for name, parts in chosen.items() if not scale.systems or name in scale.systems}
    for name, (config, loss) in chosen.items():
        folder = "first-stages/" + name.replace(",", "").replace(" ", "-")
        model = lab.learn_stage(folder, config, loss, scale.stage_steps)
        given, made, used = reconstruct(model, held_out, scale.stage_batch)
        quality[name] = psnr(given, made)
        cells = (scale.stage_pixels // config.stride) ** 2
        row = {
            "system": name, "cells": f"{math.isqrt(cells)}x{math.isqrt(cells)}", "codes": config.codebook_size,
            "bits a picture": round(cells * math.log2(config.codebook_size)),
            "parameters": sum(p.numel() for p in model.parameters()),
            "PSNR": quality[name].mean().item(), "SSIM": ssim(given, made).mean().item(), "codes used": used,
        }  # fmt: skip
        row["kernel distance (CLIP given)"] = kernel_distance(*(embed_images(clip, images) for images in (given, made)))
        rows.append(row)
        strips.append(made[:SHOWN])
    lab.show("first-stages", image_grid(torch.cat([given[:SHOWN], *strips]), min(SHOWN, len(given))))
    pairs = (
        ("At equal bits the adversary and its features cost decibels.", "VQGAN", "VQVAE"),
        ("Four times the bits give more decibels.", "VQVAE", "VQVAE, f8"),
    )
    claims = [
        Claim(words, f"PSNR of {less} minus {more}, dB", bootstrap(quality[less] - quality[more]))
        for words, less, more in pairs
        if less in quality and more in quality
    ]
    setting = (
        f"{len(learned)} drawings to learn from, {len(held_out)} held out, {scale.stage_pixels} pixels; "
        f"{scale.stage_steps} steps of {scale.stage_batch}, one seed; codes begin by k-means and restart, but Gumbel's."
    )
    return Result("first-stages", setting, rows, claims)


@torch.inference_mode()
def reconstruct(model: VQGAN, pictures: ImageViews, batch: int) -> tuple[Tensor, Tensor, int]:
    """Pictures [N, 3, H, W] in -1..1, what becomes of them, and how many codes that takes."""
    given, made, used = [], [], set()
    for views in once(pictures, batch, 0, 1):
        indices = model.encode_indices(views["color"].to(model.device))
        given.append(views["color"])
        made.append(model.decode_indices(indices).clamp(-1, 1).cpu())
        used.update(indices.unique().tolist())
    return torch.cat(given), torch.cat(made), len(used)
