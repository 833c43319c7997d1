"""A canvas as an image: decoded, with its cells drawn in."""

import torch
from torch import Tensor

from ..autoencoders.base import FirstStage
from .canvas import Canvas
from .codec import decode_canvas
from .masks import unknown_mask


def canvas_view(vqgan: FirstStage, canvas: Canvas) -> Tensor:
    """[B, h, w] cells -> images [B, C, H, W] in -1..1: lines between cells, unknown ones crossed out in white."""
    stride = vqgan.config.stride
    images = decode_canvas(vqgan, canvas)
    rows, columns = (torch.arange(side) % stride for side in images.shape[-2:])
    border = (rows[:, None] == 0) | (columns[None, :] == 0)
    cross = (rows[:, None] == columns[None, :]) | (rows[:, None] == stride - columns[None, :])
    images = torch.where(border, images * 0.5 - 0.25, images)
    crossed = cross & unknown_mask(canvas, stride).bool()  # [B, H, W]
    return torch.where(crossed.unsqueeze(1), 0.8, images)
