"""Images that guide an image, made ready for the condition's VQGAN (edges have a file of their own)."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..images.io import NOISE, byte_steps, check_images

UNLABELLED = (
    "255 marks what is unlabelled: let labels start at 1, if the model keeps 0 for that, or paint it with a label"
)


def depth(images: Tensor) -> Tensor:
    """Inverse depth (near is bright), stretched to the full range image by image.

    [B, 1 or 3, H, W], any scale -> [B, 1, H, W] in -1..1; a flat image becomes all far (-1).
    """
    check_images(images, "the depth picture")
    gray = images.float().mean(1, keepdim=True)
    low, high = gray.amin((1, 2, 3), keepdim=True), gray.amax((1, 2, 3), keepdim=True)
    return (gray - low) / (high - low).clamp(min=1e-8) * 2 - 1


def check_depth(images: Tensor) -> Tensor:
    """Depth images as they came, before they are scaled: [B, 1 or 3, H, W] in -1..1 -> the same.

    Raises:
        ValueError: broken, or numbers packed into RGBA (`io.packed_floats`) whose fourth byte is lost by now.
    """
    check_images(images, "the depth picture")
    low, high = (byte_steps((images[:, channel] + 1) * 127.5) for channel in (0, -1))
    if low > NOISE and high < low / 2:
        raise ValueError(
            "the depth picture holds floating-point numbers packed into the bytes of RGBA, and without the fourth of "
            "them no depth is left; save the depth as gray levels"
        )
    return images


def segmentation(labels: Tensor, classes: int) -> Tensor:
    """A label map as one channel a class: [B, H, W] int64 in 0..classes-1 -> [B, classes, H, W], 0 or 1.

    Raises:
        ValueError: a label the model does not know.
    """
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"segmentation labels run from {low} to {high}, this model knows 0 to {classes - 1}; "
            f"{UNLABELLED if high == 255 else 'use a label map of the dataset it was trained on'}"
        )
    return F.one_hot(labels, classes).movedim(-1, 1).float()


def labels_from_colors(images: Tensor, palette: Tensor) -> Tensor:
    """The label whose palette color is nearest to each pixel: [B, 3, H, W] in -1..1, palette [n, 3] in
    0..255 -> [B, H, W] int64 in 0..n-1."""
    check_images(images, "the segmentation picture")
    pixels = ((images.float().clamp(-1, 1) + 1) * 127.5).movedim(1, -1)  # [B, H, W, 3]
    palette = palette.to(pixels)
    best = pixels.new_full(pixels.shape[:3], torch.inf)
    labels = torch.zeros(pixels.shape[:3], dtype=torch.int64, device=pixels.device)
    for label, color in enumerate(palette):  # a color at a time: the full table would be n times the image
        distance = (pixels - color).square().sum(-1)
        labels[distance < best] = label
        best = torch.minimum(best, distance)
    return labels


def labels_from_image(images: Tensor, palette: Tensor | None, classes: int, first: int = 0) -> Tensor:
    """An image of a label map as labels, by its gray levels or by the nearest color of a palette.

    Args:
        images: [B, 1 or 3, H, W] in -1..1.
        palette: [1, 3, H, W] in -1..1, one pixel a label in reading order, as many as there are classes or more;
            None for gray levels.
        first: as for `labels_from_gray`.
    Returns:
        [B, H, W] int64.
    Raises:
        ValueError: a palette with too few pixels, or colors without one.
    """
    if palette is None:
        return labels_from_gray(images, first)
    colors = (palette[0].flatten(1).t() + 1) * 127.5  # [n, 3] in 0..255
    if len(colors) < classes:
        raise ValueError(f"the palette has {len(colors)} pixels, the model {classes} labels; give a pixel for each")
    return labels_from_colors(images, colors[:classes])


def invert(images: Tensor) -> Tensor:
    """Bright becomes dark: [B, C, H, W] in -1..1 -> same."""
    return -images


def labels_from_gray(images: Tensor, first: int = 0) -> Tensor:
    """Labels written as gray levels 0..255: [B, 1 or 3, H, W] in -1..1 -> [B, H, W] int64.

    Args:
        first: the model's label that black stands for. COCO-Stuff's maps count from 0 and mark what is unlabeled by
            255; models of 183 labels count from 1 and keep 0 for it. With 1, both are moved there.
    Raises:
        ValueError: colors, or another number than 0 or 1.
    """
    check_images(images, "the segmentation picture")
    if first not in (0, 1):
        raise ValueError(f"the first label is {first}; choose 0, or 1 where the model keeps 0 for what is unlabelled")
    levels = ((images.float().clamp(-1, 1) + 1) * 127.5).round().long()  # [B, C, H, W]
    if (levels != levels[:, :1]).any():
        raise ValueError(
            "the segmentation picture is colored, and without a palette its gray levels are the labels; give the "
            "palette of its colors, or a gray label map"
        )
    return (levels[:, 0] + first) % 256


def colorize_labels(labels: Tensor, classes: int) -> Tensor:
    """Label maps to look at, neighboring numbers in colors far apart: [B, H, W] int64 -> [B, 3, H, W] in -1..1."""
    hues = torch.arange(classes) * 0.618 * 2 * math.pi  # golden ratio: no two come close
    phases = torch.tensor([0.0, 2.0, 4.0]) * math.pi / 3
    palette = torch.cos(hues[:, None] - phases)  # [classes, 3]
    return palette[labels.cpu()].movedim(-1, 1)


def low_resolution(images: Tensor, factor: int) -> Tensor:
    """Scaled down by `factor` and back up, in steps of 1/255: what super-resolution learns to undo. Same shape.

    Raises:
        ValueError: as of `made_small`.
    """
    height, width = images.shape[-2:]
    return enlarge(made_small(images, factor), (height, width)).to(images)


def made_small(images: Tensor, factor: int) -> Tensor:
    """Scaled down by `factor`, in steps of 1/255: [B, C, H, W] -> [B, C, H // factor, W // factor].

    Raises:
        ValueError: a broken image, or a factor below 1 or larger than a side.
    """
    check_images(images)
    height, width = images.shape[-2:]
    if factor < 1 or min(height, width) < factor:
        raise ValueError(f"factor {factor} does not fit a {width}x{height} picture; choose 1 to {min(height, width)}")
    pixels = ((images + 1) * 127.5).clamp(0, 255).byte()  # cut off, not rounded, as in the original
    return (resize(pixels, (height // factor, width // factor)) / 127.5 - 1).to(images)


def enlarge(images: Tensor, size: tuple[int, int]) -> Tensor:
    """A small image at the size of the one to be made, as `low_resolution` does it: [B, C, h, w] -> [B, C, *size]."""
    check_images(images, "the small picture")
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().byte()
    return (resize(pixels, size) / 127.5 - 1).to(images)


def resize(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubic by Pillow, whose filter the original's conditions have: uint8 [B, C, h, w] -> uint8 [B, C, *size]."""
    height, width = size
    planes = [Image.fromarray(plane.numpy()) for plane in pixels.flatten(0, 1).cpu()]
    planes = [np.asarray(plane.resize((width, height), Image.Resampling.BICUBIC)) for plane in planes]
    return torch.from_numpy(np.stack(planes)).view(*pixels.shape[:2], height, width)
