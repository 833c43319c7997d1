"""A painted part back into the image it came from: what was not painted stays as it was, to the pixel."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_FEATHER = 256  # pixels


class Region(NamedTuple):
    """A rectangle of pixels of a larger image."""

    top: int
    left: int
    height: int
    width: int


def region_around(mask: Tensor, height: int, width: int, side: int, margin: int) -> Region:
    """The square around what a mask paints, within an image of height x width pixels.

    Args:
        mask: [B, H, W] in 0..1 of any size; laid over the image.
        side: pixels that it has at least, as far as the image goes.
        margin: pixels around the painted ones.
    Raises:
        ValueError: nothing is painted.
    """
    painted = fit_mask(mask, height, width).amax(0) > 0  # [H, W]
    if not painted.any():
        raise ValueError("the mask paints nothing; paint what is to be made anew")
    spans = []
    rows, columns = painted.any(1).nonzero().flatten(), painted.any(0).nonzero().flatten()
    longest = max(int(found[-1] - found[0]) + 1 for found in (rows, columns)) + 2 * margin
    for found, length in ((rows, height), (columns, width)):
        size = min(length, max(side, longest))
        middle = (int(found[0]) + int(found[-1]) + 1) // 2
        spans.append((min(max(0, middle - size // 2), length - size), size))
    (top, tall), (left, wide) = spans
    return Region(top, left, tall, wide)


def cut_out(images: Tensor, region: Region) -> Tensor:
    """A region of images or masks [..., H, W].

    Raises:
        ValueError: it reaches beyond them.
    """
    top, left, height, width = region
    if top + height > images.shape[-2] or left + width > images.shape[-1]:
        raise ValueError(
            f"a region of {width}x{height} pixels at {left}, {top} reaches beyond a picture of "
            f"{images.shape[-1]}x{images.shape[-2]}; use the picture that it was cut out of"
        )
    return images[..., top : top + height, left : left + width]


def put_back(painted: Tensor, original: Tensor, mask: Tensor, feather: int, region: Region | None = None) -> Tensor:
    """Lay painted images over the original where the mask says so.

    Args:
        painted: [B, C, h, w]; scaled to the region if they are not as large.
        original: [1 or B, C, H, W].
        mask: [1 or B, H', W'] in 0..1, over the whole original; values between are blended in proportion.
        feather: pixels over which the painted part fades out beyond the mask, 0 to 256.
        region: where the painted images belong; None for all of the original.
    Returns:
        [B, C, H, W]; the original's own values wherever the faded mask is 0.
    """
    if not 0 <= feather <= MAX_FEATHER:
        raise ValueError(f"feather is {feather} pixels; choose 0 to {MAX_FEATHER}")
    height, width = original.shape[-2:]
    region = region or Region(0, 0, height, width)
    under = cut_out(original, region)
    painted = painted.to(original)
    if painted.shape[-2:] != under.shape[-2:]:
        painted = F.interpolate(painted, under.shape[-2:], mode="bicubic", antialias=True, align_corners=False)
    share = (
        cut_out(feather_mask(fit_mask(mask, height, width), feather), region).unsqueeze(1).to(original)
    )  # [B, 1, h, w]
    batch = max(len(painted), len(original), len(share))
    result = original.expand(batch, -1, -1, -1).clone()
    cut_out(result, region).copy_(torch.where(share > 0, torch.lerp(under, painted, share), under))
    return result


def fit_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """A mask [B, h, w] as large as an image: [B, H, W]."""
    if mask.shape[-2:] == (height, width):
        return mask
    return F.interpolate(mask.unsqueeze(1).float(), (height, width), mode="bilinear", align_corners=False).squeeze(1)


def feather_mask(mask: Tensor, pixels: int) -> Tensor:
    """A mask [B, H, W] that falls off smoothly to 0 over this many pixels beyond what it paints."""
    if pixels == 0:
        return mask
    grown = mask.unsqueeze(1).float()
    for along in (3, 2):
        grown = _dilate(grown, pixels, along)
    return grown.squeeze(1)


def _dilate(x: Tensor, pixels: int, along: int) -> Tensor:
    """At each pixel of [B, 1, H, W] the largest of its neighbors along one direction, weighed by how near they are."""
    result, length = x.clone(), x.shape[along]
    for offset in range(1, min(pixels, length - 1) + 1):
        weight = 0.5 + 0.5 * math.cos(math.pi * offset / (pixels + 1))
        for near, far in (((0, length - offset), (offset, length)), ((offset, length), (0, length - offset))):
            here = result.narrow(along, near[0], near[1] - near[0])
            there = x.narrow(along, far[0], far[1] - far[0])
            torch.maximum(here, there * weight, out=here)
    return result
