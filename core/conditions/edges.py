"""Edges: the picture condition that any photograph or drawing can give (section 4.2.2, figure 6)."""

from typing import Literal, get_args

import cv2
import numpy as np
import torch
from torch import Tensor

from ..images.io import check_images

LineSource = Literal["photograph", "lines", "drawing"]


def canny_array(pixels: np.ndarray, low: float = 100, high: float = 200, blur: float = 1.0) -> np.ndarray:
    """Canny edges of one picture: [H, W, 3] uint8 RGB -> [H, W] uint8, 255 on an edge.

    Args:
        low, high: gradient thresholds, 0..1000; an edge starts at `high` and is followed down to `low`.
        blur: sigma in pixels of the Gaussian before it; 0 for none.
    """
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    if blur > 0:
        gray = cv2.GaussianBlur(gray, (0, 0), blur)
    return cv2.Canny(gray, low, high, L2gradient=True)


def canny(images: Tensor, low: float = 100, high: float = 200, blur: float = 1.0) -> Tensor:
    """White edges on black, as ControlNet preprocessors draw them.

    Args:
        images: [B, 3, H, W] in -1..1.
        low, high, blur: as for `canny_array`.
    Returns:
        [B, 1, H, W], -1 (black) or 1 (white).
    Raises:
        ValueError: a broken picture, or thresholds out of order.
    """
    check_images(images)
    if not 0 <= low <= high:
        raise ValueError(f"edge thresholds are low {low} and high {high}; they need 0 <= low <= high")
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().byte().expand(-1, 3, -1, -1)
    maps = [canny_array(p.permute(1, 2, 0).contiguous().cpu().numpy(), low, high, blur) for p in pixels]
    return torch.from_numpy(np.stack(maps)).unsqueeze(1).to(images) / 127.5 - 1


def extract_lines(images: Tensor, source: LineSource, low: float = 100, high: float = 200, blur: float = 1.0) -> Tensor:
    """White lines on black, whatever the picture is.

    Args:
        images: [B, 1 or 3, H, W] in -1..1.
        source: "photograph", its edges; "lines", bright on dark already, as edge detectors draw them; "drawing",
            dark strokes on a light ground.
        low, high, blur: for photographs, as for `canny`.
    Returns:
        [B, 1, H, W] in -1..1.
    Raises:
        ValueError: a broken picture, thresholds out of order or an unknown source.
    """
    match source:
        case "photograph":
            return canny(images, low, high, blur)
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
        ValueError: a broken picture.
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
