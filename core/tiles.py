"""Several pictures as one."""

import math

import torch.nn.functional as F
from torch import Tensor


def tiled(images: Tensor, gap: int = 4) -> Tensor:
    """Pictures side by side in rows, about as many rows as columns: [B, C, H, W] in -1..1 -> [1, C, H', W'].

    Args:
        gap: black pixels between them.
    """
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    images = F.pad(images, (0, gap, 0, gap, 0, 0, 0, rows * columns - len(images)), value=-1.0)
    _, channels, height, width = images.shape
    sheet = images.view(rows, columns, channels, height, width).permute(2, 0, 3, 1, 4)  # [C, rows, H, columns, W]
    return sheet.reshape(1, channels, rows * height, columns * width)[..., :-gap, :-gap]
