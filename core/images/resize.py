"""Images scaled to what a prior was trained on: its window, in pixels."""

from collections.abc import Callable
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from .io import check_images, check_size

Fit = Literal["square", "whole picture", "original size"]
MAX_ASPECT = 4  # times its shorter side


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """[B, C, H, W] -> [B, C, *size], bicubic, clamped to -1..1."""
    return F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False).clamp(-1, 1)


def resize_lines(images: Tensor, size: tuple[int, int]) -> Tensor:
    """The same for bright lines, which keep their brightness: where several pixels become one, the brightest counts."""
    return F.adaptive_max_pool2d(images, size)


def resize_labels(images: Tensor, size: tuple[int, int]) -> Tensor:
    """The same for colors that stand for something and must not be mixed: the nearest pixel."""
    return F.interpolate(images, size, mode="nearest-exact")


def fit(images: Tensor, how: Fit, side: int, scale: Callable[[Tensor, tuple[int, int]], Tensor] = resize) -> Tensor:
    """Scale images for a window of `side` pixels.

    Args:
        images: [B, 1 or 3, H, W] in -1..1.
        how: "square", the middle square at the window's size; "whole image", the shorter side at the window's
            size; "original size", as it is, enlarged only where a side is shorter than the window.
        scale: one of the functions above.
    Returns:
        [B, 1 or 3, H', W'] in -1..1, both sides at least `side`.
    Raises:
        ValueError: a broken image or an unknown way.
    """
    check_images(images)
    if how not in get_args(Fit):
        raise ValueError(f"pictures can't be fitted by {how!r}; use {', '.join(get_args(Fit))}")
    if how == "original size" and min(images.shape[-2:]) >= side:
        return images
    if how == "square":
        return fit_square(images, side, scale)
    height, width = size = covering(images, side)
    check_size(f"the picture with {side} pixels on its shorter side", width, height)
    return scale(images, size)


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Grow right and bottom to multiples of `multiple` by repeating the border; crop back after decoding
    with `images[..., :H, :W]`. [B, C, H, W] -> [B, C, H', W']"""
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % multiple, 0, -height % multiple), mode="replicate")


def fit_square(images: Tensor, side: int, scale: Callable[[Tensor, tuple[int, int]], Tensor] = resize) -> Tensor:
    """Scale so that the shorter side is `side` pixels and cut the middle square: [B, C, side, side]."""
    images = middle(images)
    size = covering(images, side)
    images = scale(images, size)
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    return images[..., top : top + side, left : left + side]


def covering(images: Tensor, side: int) -> tuple[int, int]:
    """Height and width that images have once their shorter side has `side` pixels."""
    height, width = images.shape[-2:]
    ratio = side / min(height, width)
    return max(side, round(height * ratio)), max(side, round(width * ratio))


def middle(images: Tensor) -> Tensor:
    """The middle of long strips, at most `MAX_ASPECT` times as long as wide: what is cut off is never scaled."""
    height, width = images.shape[-2:]
    tall, wide = min(height, MAX_ASPECT * width), min(width, MAX_ASPECT * height)
    top, left = (height - tall) // 2, (width - wide) // 2
    return images[..., top : top + tall, left : left + wide]
