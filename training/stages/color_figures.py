"""How true colors are: by hue for each cell, and which hue an image is of as a whole."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

HUES = {"reds": 0.0, "yellows": 60.0, "greens": 120.0, "blues": 240.0}  # degrees
NEAR = 30.0  # degrees that a cell's hue may be off
# What people call a color is another matter: of the emoji named so, green apples, hearts and circles have mean hues of
# 67 to 155 degrees, yellow hearts and circles and lemons of 40 to 58, and frogs of 61 to 120.
NAMED = {"red": (-30.0, 30.0), "yellow": (30.0, 60.0), "green": (60.0, 170.0), "blue": (180.0, 270.0)}
COLORED = 0.15  # chroma, 0 to 1, from which a color has a hue
SEEN = 0.02  # share of an image that must be colored for it to have a hue


def hue_and_chroma(colors: Tensor) -> tuple[Tensor, Tensor]:
    """Hue in degrees and chroma 0..1 of colors [B, 3, ...] in 0..1: two of shape [B, ...]."""
    red, green, blue = colors.unbind(1)
    high, low = colors.amax(1), colors.amin(1)
    hue = torch.atan2(math.sqrt(3) * (green - blue), 2 * red - green - blue).rad2deg() % 360
    return hue, high - low


def hue_distance(a: Tensor, b: float) -> Tensor:
    """Degrees between hues, 0 to 180."""
    return ((a - b + 180) % 360 - 180).abs()


def cell_color_errors(given: Tensor, made: Tensor, cell: int) -> Tensor:
    """For each of `HUES` the sum over its cells of how far their mean color is off (0..1), and the number of cells.

    Args:
        given, made: [B, 3, H, W] in -1..1.
        cell: pixels a side.
    Returns:
        [4, 2] float64.
    """
    wanted, found = ((F.avg_pool2d(image, cell) + 1) / 2 for image in (given, made))
    hue, chroma = hue_and_chroma(wanted)
    off = (wanted - found).abs().mean(1)
    sums = []
    for center in HUES.values():
        of_hue = (hue_distance(hue, center) < NEAR) & (chroma > COLORED)
        sums.append(torch.stack([off[of_hue].sum(), of_hue.sum()]))
    return torch.stack(sums).double().cpu()


def is_named(images: Tensor, name: str) -> Tensor:
    """Which images [B, 3, H, W] in -1..1 are, by their colored pixels, red, yellow, green or blue as a whole; [B]."""
    low, high = NAMED[name]
    hue, chroma = hue_and_chroma((images + 1) / 2)
    weight = chroma * (chroma > COLORED)
    x, y = ((weight * turn(hue.deg2rad())).sum((1, 2)) for turn in (torch.cos, torch.sin))
    mean = torch.atan2(y, x).rad2deg() % 360
    return ((mean - low) % 360 < high - low) & ((weight > 0).float().mean((1, 2)) > SEEN)
