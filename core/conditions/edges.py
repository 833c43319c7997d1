"""Edges: the image condition that any photograph or drawing can give (section 4.2)."""

from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
import torch
from torch import Tensor

from ..images.io import check_images

LineSource = Literal["photograph", "lines", "drawing"]


@dataclass(frozen=True, kw_only=True)
class EdgeSettings:
    """How Canny finds edges; the defaults see the soft edges of a photograph, but not its grain.

    low, high: gradient thresholds, 0 to 1000; an edge starts at `high` and is followed down to `low`.
    blur: sigma in pixels of the Gaussian before it; 0 for none.

    Raises ValueError for thresholds out of order.
    """

    low: float = 50
    high: float = 120
    blur: float = 2.0

    def __post_init__(self):
        if not 0 <= self.low <= self.high:
            raise ValueError(f"edge thresholds are low {self.low} and high {self.high}; they need 0 <= low <= high")
        if not self.blur >= 0:
            raise ValueError(f"blur is {self.blur}; choose 0 for none, or a width in pixels")


DEFAULT_EDGES = EdgeSettings()


def canny_array(pixels: np.ndarray, settings: EdgeSettings = DEFAULT_EDGES) -> np.ndarray:
    """Canny edges of one image: [H, W, 3] uint8 RGB -> [H, W] uint8, 255 on an edge."""
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    if settings.blur > 0:
        gray = cv2.GaussianBlur(gray, (0, 0), settings.blur)
    return cv2.Canny(gray, settings.low, settings.high, L2gradient=True)


def canny(images: Tensor, settings: EdgeSettings = DEFAULT_EDGES) -> Tensor:
    """White edges on black, as ControlNet preprocessors draw them.

    Args:
        images: [B, 3, H, W] in -1..1.
    Returns:
        [B, 1, H, W], -1 (black) or 1 (white).
    Raises:
        ValueError: a broken image.
    """
    check_images(images)
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().byte().expand(-1, 3, -1, -1)
    maps = [canny_array(p.permute(1, 2, 0).contiguous().cpu().numpy(), settings) for p in pixels]
    return torch.from_numpy(np.stack(maps)).unsqueeze(1).to(images) / 127.5 - 1


def extract_lines(images: Tensor, source: LineSource, settings: EdgeSettings = DEFAULT_EDGES) -> Tensor:
    """White lines on black, whatever the image is.

    Args:
        images: [B, 1 or 3, H, W] in -1..1.
        source: "photograph", its edges; "lines", bright on dark already, as edge detectors draw them; "drawing",
            dark strokes on a light ground.
        settings: for photographs.
    Returns:
        [B, 1, H, W] in -1..1.
    Raises:
        ValueError: a broken image, or an unknown source.
    """
    match source:
        case "photograph":
            return canny(images, settings)
        case "drawing":
            return centerlines(images)
        case "lines":
            check_images(images)
            return images.mean(1, keepdim=True)
    raise ValueError(f"lines can't be taken from {source!r}; use {', '.join(get_args(LineSource))}")


def centerlines(images: Tensor) -> Tensor:
    """The middles of a line drawing's strokes, as thin as Canny's edges (which would give both sides).

    Args:
        images: [B, 1 or 3, H, W] in -1..1, dark strokes on a light ground.
    Returns:
        [B, 1, H, W], -1 (black) or 1 (white).
    Raises:
        ValueError: a broken image.
    """
    check_images(images)
    dark = (images.mean(1) < 0).cpu().numpy()  # [B, H, W]
    thin = np.stack([skeletonize(mask) for mask in dark])
    return torch.from_numpy(thin).unsqueeze(1).to(images) * 2 - 1


def skeletonize(mask: np.ndarray) -> np.ndarray:
    """Peel [H, W] bool shapes to connected lines one pixel wide (Zhang and Suen 1984)."""
    mask = np.pad(mask, 1).astype(np.uint8)
    changed = True
    while changed:
        changed = False
        for first_pass in (True, False):
            north, south = np.roll(mask, 1, 0), np.roll(mask, -1, 0)
            west, east = np.roll(mask, 1, 1), np.roll(mask, -1, 1)
            # the eight neighbors clockwise from north
            ring = [
                north, np.roll(north, -1, 1), east, np.roll(south, -1, 1),
                south, np.roll(south, 1, 1), west, np.roll(north, 1, 1),
            ]  # fmt: skip
            neighbors = sum(ring)
            rises = sum((a == 0) & (b == 1) for a, b in zip(ring, ring[1:] + ring[:1], strict=True))
            # the first pass peels from south and east, the second from north and west
            open_side = east * south * (north + west) if first_pass else north * west * (east + south)
            peel = (mask == 1) & (neighbors >= 2) & (neighbors <= 6) & (rises == 1) & (open_side == 0)
            changed |= bool(peel.any())
            mask[peel] = 0
    return mask[1:-1, 1:-1].astype(bool)
