"""Several images as one."""

import math

import torch.nn.functional as F
from torch import Tensor

from .io import check_size


def tile_images(images: Tensor, columns: int | None = None, gap: int = 0) -> Tensor:
    """Images in rows and columns, places without one black: [B, C, H, W] in -1..1 -> [1, C, H', W'].

    Args:
        columns: None for about as many as rows.
        gap: black pixels between images.
    """
    columns = columns or math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    images = F.pad(images, (0, gap, 0, gap, 0, 0, 0, rows * columns - len(images)), value=-1.0)
    _, channels, height, width = images.shape
    sheet = images.view(rows, columns, channels, height, width).permute(2, 0, 3, 1, 4)  # [C, rows, H, columns, W]
    sheet = sheet.reshape(1, channels, rows * height, columns * width)
    return sheet[..., : rows * height - gap, : columns * width - gap]


def repeat_image(images: Tensor, across: int, down: int) -> Tensor:
    """Each image beside and below itself, as a texture on a wall: [B, C, H, W] -> [B, C, down * H, across * W].

    Raises:
        ValueError: more pixels than an image may have, or none.
    """
    height, width = images.shape[-2:]
    check_size(f"{across}x{down} times a picture of {width}x{height}", across * width, down * height)
    return images.repeat(1, 1, down, across)
