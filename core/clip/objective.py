"""What guidance minimizes: the spherical distances between the views of an image and its prompts.

    d(u, v) = 2 arcsin(|u - v| / 2)^2, half the squared angle between unit vectors

A prompt's loss is the mean over the views of d, or of -d where its weight is negative. Losses add up by their weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .cutouts import CutoutSettings, Views, coverage, draw_views, take_views
from .encoder import CLIP
from .model import ClipModel
from .prompts import Prompt

MAX_SINE = 1 - 1e-6  # the arcsine's gradient is infinite at 1, opposite vectors
VIEWS_MEMORY = 400 * 2**20  # bytes, about, that views at work together keep for their gradient; twice is 8 % faster
MOST_VIEWS = 32  # at work together, however small the CLIP
VIEW_VALUES = 15  # float32 kept for each token, channel and layer; measured


class Target(NamedTuple):
    """A prompt as one CLIP sees it."""

    vectors: Tensor  # [m, E] unit: one for words, one for each view of an image
    weight: float
    stop: float
    region: Tensor | None  # [H, W] of the canvas' image


def encode_prompts(
    model: ClipModel, prompts: Sequence[Prompt], cutouts: CutoutSettings, size: tuple[int, int]
) -> list[Target]:
    """Prompts as a CLIP sees them, for an image of size (height, width)."""
    targets = []
    with torch.no_grad():
        for prompt in prompts:
            region = prompt.region
            if region is not None:
                region = F.interpolate(region[None, None].float(), size, mode="bilinear", antialias=True)[0, 0]
                region = region.to(model.clip.device)
            targets.append(Target(prompt_vectors(model, prompt, cutouts), prompt.weight, prompt.stop, region))
    return targets


def prompt_vectors(model: ClipModel, prompt: Prompt, cutouts: CutoutSettings) -> Tensor:
    """Unit vectors of a prompt, [m, E]: one for words and noise, one for each view of an image."""
    clip = model.clip
    if prompt.text:
        return clip.encode_text(model.tokenizer([prompt.text]).to(clip.device))
    if prompt.noise is not None:
        generator = torch.Generator().manual_seed(prompt.noise)
        return F.normalize(torch.randn(1, clip.config.embed_dim, generator=generator), dim=1).to(clip.device)
    assert prompt.image is not None  # a prompt is one of the three
    image, side = prompt.image.to(clip.device), clip.config.image_size
    views = draw_views(cutouts, image.shape[2], image.shape[3], side, torch.Generator().manual_seed(0))
    some = views_at_once(clip)
    taken = (views.part(i, i + some, clip.device) for i in range(0, cutouts.count, some))
    return torch.cat([clip.encode_image(take_views(image, part, side)) for part in taken])


def spherical_distance(a: Tensor, b: Tensor) -> Tensor:
    """Half the square of the angle between unit vectors, 0 to 4.93: [n, E], [m, E] -> [n, m]."""
    chord = (a[:, None] - b[None]).norm(dim=2)
    return 2 * (chord / 2).clamp(max=MAX_SINE).arcsin().square()


def views_at_once(clip: CLIP) -> int:
    """How many views are worked on together: many with a small CLIP, one with the largest."""
    return min(max(1, VIEWS_MEMORY // view_memory(clip)), MOST_VIEWS)


def view_memory(clip: CLIP) -> int:
    """Bytes that a view keeps for its gradient, about."""
    c = clip.config
    return 4 * VIEW_VALUES * ((c.image_size // c.patch_size) ** 2 + 1) * c.image_layers * c.image_width


def add_gradient(
    clip: CLIP, image: Tensor, views: Views, targets: list[Target], normalize: bool
) -> tuple[list[float], float]:
    """Add the gradient of the prompts' losses to `image.grad`, a few views at a time; each loss, and their sum."""
    count, size = len(views.maps), clip.config.image_size
    shares = [_shares(views, target, image.device) for target in targets]  # [n] each, of sum one
    scale = sum(abs(target.weight) for target in targets) if normalize else 1.0
    losses = [0.0] * len(targets)
    some = views_at_once(clip)
    for start in range(0, count, some):
        stop = min(start + some, count)
        seen = clip.encode_image(take_views(image, views.part(start, stop, image.device), size))
        parts = [
            (_signed_distance(seen, target) * share[start:stop]).sum()
            for target, share in zip(targets, shares, strict=True)
        ]
        scaled = [part * (abs(target.weight) / scale) for part, target in zip(parts, targets, strict=True)]
        torch.stack(scaled).sum().backward()
        losses = [loss + float(part.detach()) for loss, part in zip(losses, parts, strict=True)]
    return losses, sum(loss * abs(t.weight) / scale for loss, t in zip(losses, targets, strict=True))


def _signed_distance(seen: Tensor, target: Target) -> Tensor:
    """Mean distance of each view to the target [n], negative where it repels; views past the stop have no gradient."""
    distance = spherical_distance(seen, target.vectors) * math.copysign(1.0, target.weight)
    return torch.where(distance < target.stop, distance.detach(), distance).mean(1)


def _shares(views: Views, target: Target, device: torch.device) -> Tensor:
    """How much each view counts for a target: [n], of sum one; 0 for all where none sees its region."""
    count = len(views.maps)
    if target.region is None:
        return torch.full((count,), 1 / count, device=device)
    seen = coverage(views.part(0, count, device), target.region)
    return seen / seen.sum().clamp(min=1e-6)
