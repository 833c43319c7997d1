"""The codebook as an image: a swatch of every code."""

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ..autoencoders.base import FirstStage
from ..images.tiles import tile_images
from .canvas import Canvas

Order = Literal["number", "brightness", "use"]
MAX_COUNTED = 2**24  # codes
SIDE = 16  # codes a side that are decoded together, each as 2 x 2 cells
CODES_AT_ONCE = SIDE**2


@torch.inference_mode()
def swatches(vqgan: FirstStage, codes: Tensor | None = None) -> Tensor:
    """What these codes [n], or all, look like among the others: [n, C, stride, stride] in -1..1, on the CPU.

    The decoder's norms and attention see the whole image, so a code alone would lose its colors: codes are
    decoded together, a block of 2 x 2 cells each, and cut out of the middle of their block.
    """
    codes, stride = torch.arange(countable(vqgan.config.codebook_size)) if codes is None else codes, vqgan.config.stride
    size = len(codes)
    # far apart in the codebook, side by side in the image: trained codebooks put like codes near each other
    mixed = torch.arange(size) * coprime(size) % size
    found = torch.empty(size, vqgan.config.image_channels, stride, stride)
    for some in mixed.split(CODES_AT_ONCE):
        cells = codes[some].repeat(-(-CODES_AT_ONCE // len(some)))[:CODES_AT_ONCE].view(1, SIDE, SIDE)
        blocks = cells.repeat_interleave(2, 1).repeat_interleave(2, 2)
        image = vqgan.decode_indices(blocks.to(vqgan.device)).clamp(-1, 1).cpu()[0]
        # [C, 16 * 2s, 16 * 2s] -> [16 * 16, C, 2s, 2s]
        patches = image.view(-1, SIDE, 2 * stride, SIDE, 2 * stride).permute(1, 3, 0, 2, 4).flatten(0, 1)
        inner = slice(stride // 2, stride // 2 + stride)
        found[some] = patches[: len(some), :, inner, inner].float()
    return found


def most_used(vqgan: FirstStage, counts: Tensor, most: int = 64) -> Tensor:
    """The codes used most by counts [K], row by row from the top left: [1, C, H, W] in -1..1."""
    codes = counts.argsort(descending=True, stable=True)[: min(most, int((counts > 0).sum()))]
    return tile_images(swatches(vqgan, codes), gap=1)


def coprime(size: int) -> int:
    """A step that visits all of 0..size-1, about the golden share of it."""
    step = max(1, round(size * 0.618))
    while math.gcd(step, size) > 1:
        step += 1
    return step


def codebook_atlas(vqgan: FirstStage, order: Order, canvas: Canvas | None = None) -> Tensor:
    """All codes on one image, row by row from the top left: [1, C, H, W] in -1..1.

    Args:
        order: by "number", by "brightness", or by how often the canvas uses them.
        canvas: with it, codes that it does not use are dimmed.
    Raises:
        ValueError: order "use" without a canvas, or a canvas with codes that the VQGAN does not have.
    """
    if order not in get_args(Order) or (order == "use" and canvas is None):
        raise ValueError(
            f"codes can't be put in order by {order!r}; choose number or brightness, or give a canvas whose use counts"
        )
    patches = swatches(vqgan)
    counts = code_counts(canvas, len(patches))
    keys = {"number": torch.arange(len(patches)), "brightness": -patches.mean((1, 2, 3)), "use": -counts}
    shown = torch.where((counts > 0).view(-1, 1, 1, 1), patches, patches * 0.15 - 0.6)
    patches = shown[keys[order].argsort(stable=True)]
    return tile_images(patches)


def colors_in(canvas: Canvas, images: Tensor, size: int, stride: int) -> Tensor:
    """What codes look like in images that use them: the mean color of each of `size` codes.

    Args:
        canvas: of [B, h, w] cells, all known.
        images: its images, [B, 1 or 3, H, W] in -1..1, with `stride` pixels from cell to cell.
    Returns:
        [size, 3] uint8; a middle gray for codes that are not used.
    """
    cells = F.avg_pool2d(images.float(), stride, ceil_mode=True, count_include_pad=False)  # [B, C, h, w]
    codes = canvas.indices.flatten().to(cells.device)
    sums = cells.new_zeros(size, 3).index_add_(0, codes, cells.expand(-1, 3, -1, -1).movedim(1, -1).reshape(-1, 3))
    means = sums / torch.bincount(codes, minlength=size).clamp(min=1).unsqueeze(1)
    return ((means + 1) / 2).clamp(0, 1).mul(255).round().byte()


def countable(size: int) -> int:
    """So many codes; ValueError where a list of them all would not end."""
    if size > MAX_COUNTED:
        raise ValueError(
            f"this first stage has {size} codes, too many to go through: each is several of two grids; choose one of "
            "one grid"
        )
    return size


def code_counts(canvas: Canvas | None, size: int) -> Tensor:
    """How often each of `size` codes stands in the known cells, [size]; once each where there is no canvas.

    Raises:
        ValueError: a code beyond the codebook.
    """
    if canvas is None:
        return torch.ones(countable(size))
    codes = canvas.indices[canvas.known].cpu()
    if len(codes) and int(codes.max()) >= size:
        raise ValueError(f"the canvas holds code {int(codes.max())}, the codebook has 0 to {size - 1}; use its VQGAN")
    return torch.bincount(codes, minlength=countable(size)).float()
