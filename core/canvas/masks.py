"""Masks painted on an image as numbers for cells, and numbers of cells as masks."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .canvas import Canvas
from .codec import crop_padding

FINE = 16  # steps a cell's side is cut into, to place a mask on a canvas that overhangs


def mask_to_cells(mask: Tensor, canvas: Canvas) -> Tensor:
    """The mean of a mask over each cell: [1 or B, H, W] of any size, laid over the image -> [1 or B, h, w].

    Raises:
        ValueError: another number of masks than images.
    """
    if mask.ndim != 3 or len(mask) not in (1, len(canvas.indices)) or not mask.numel():
        raise ValueError(
            f"the mask has shape {tuple(mask.shape)}, the canvas {len(canvas.indices)} pictures; "
            "give one mask, or as many as there are pictures"
        )
    if not torch.isfinite(mask).all():
        raise ValueError("the mask contains NaN or infinite values; check where it comes from")
    bottom, right = (round(share * FINE) for share in canvas.padding)
    height, width = canvas.size
    fine = F.interpolate(mask.float().unsqueeze(1), (height * FINE - bottom, width * FINE - right), mode="area")
    return F.avg_pool2d(F.pad(fine, (0, right, 0, bottom), mode="replicate"), FINE).squeeze(1)


def cells_to_mask(cells: Tensor, canvas: Canvas, stride: int) -> Tensor:
    """Numbers of cells as squares of `stride` pixels: [B, h, w] -> [B, H, W], as large as the decoded image."""
    squares = cells.repeat_interleave(stride, 1).repeat_interleave(stride, 2)
    return crop_padding(squares, canvas.padding, stride)


def unknown_mask(canvas: Canvas, stride: int) -> Tensor:
    """1 where cells are unknown: [B, H, W], as large as the decoded image."""
    return cells_to_mask((~canvas.known).float(), canvas, stride)
