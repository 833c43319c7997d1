"""Edges: the picture condition that any photograph or drawing can give (section 4.2.2, figure 6)."""

import cv2
import numpy as np
import torch
from torch import Tensor

from .image import check_images


def canny(pixels: np.ndarray, low: float = 100, high: float = 200, blur: float = 1.0) -> np.ndarray:
    """Canny edges of one picture: [H, W, 3] uint8 RGB -> [H, W] uint8, 255 on an edge.

    Args:
        low, high: gradient thresholds, 0..1000; an edge starts at `high` and is followed down to `low`.
        blur: sigma in pixels of the Gaussian before it; 0 for none.
    """
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    if blur > 0:
        gray = cv2.GaussianBlur(gray, (0, 0), blur)
    return cv2.Canny(gray, low, high, L2gradient=True)


def edges(images: Tensor, low: float = 100, high: float = 200, blur: float = 1.0) -> Tensor:
    """White edges on black, as ControlNet preprocessors draw them.

    Args:
        images: [B, 3, H, W] in -1..1.
        low, high, blur: as for `canny`.
    Returns:
        [B, 1, H, W], -1 (black) or 1 (white).
    Raises:
        ValueError: a broken picture, or thresholds out of order.
    """
    check_images(images)
    if not 0 <= low <= high:
        raise ValueError(f"edge thresholds are low {low} and high {high}; they need 0 <= low <= high")
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().byte().expand(-1, 3, -1, -1)
    maps = [canny(p.permute(1, 2, 0).contiguous().cpu().numpy(), low, high, blur) for p in pixels]
    return torch.from_numpy(np.stack(maps)).unsqueeze(1).to(images) / 127.5 - 1
