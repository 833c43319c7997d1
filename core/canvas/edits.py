"""What artists do to a canvas before it is sampled: forget some of it, grow it, mix two."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ..autoencoders.base import FirstStage
from ..autoencoders.nearest import as_rows, nearest_code
from ..autoencoders.quantizers import check_indices
from .canvas import Canvas, wrap_of
from .masks import mask_to_cells

Side = Literal["top", "bottom", "left", "right"]


def keep_side(canvas: Canvas, side: Side, share: float) -> Canvas:
    """Forget all but `share` (0..1) of the rows or columns, counted from one side: image completion.

    Raises:
        ValueError: an unknown side, or a share out of range.
    """
    if side not in get_args(Side) or not 0 <= share <= 1:
        raise ValueError(f"{share} of the {side} can't be kept; choose 0 to 1 of {', '.join(get_args(Side))}")
    cells = canvas.size[0 if side in ("top", "bottom") else 1]
    far = torch.arange(cells) >= round(cells * share)  # from the side that is kept
    far = far.flip(0) if side in ("bottom", "right") else far
    lost = far[:, None] if side in ("top", "bottom") else far[None, :]
    return canvas.forget(lost.expand(canvas.size))


def masked_cells(canvas: Canvas, mask: Tensor, share: float, grow: int = 0) -> Tensor:
    """Which cells a mask means, [1 or B, h, w] bool.

    Args:
        mask: [1 or B, H, W] in 0..1, laid over the image.
        share: how much of a cell has to be painted, 0 (any of it) to below 1.
        grow: take in this many cells around them.
    Raises:
        ValueError: a mask of another batch, or numbers out of range.
    """
    if not 0 <= share < 1 or grow < 0:
        raise ValueError(f"share is {share} and grow {grow}; choose a share of 0 to below 1, and 0 cells or more")
    cells = (mask_to_cells(mask, canvas) > share).float()
    return F.max_pool2d(cells, 2 * grow + 1, stride=1, padding=grow).bool()


def pad_unknown(canvas: Canvas, top: int, right: int, bottom: int, left: int) -> Canvas:
    """Unknown cells all around: outpainting. A side that grows no longer overhangs, and no longer wraps.

    Raises:
        ValueError: negative numbers.
    """
    if min(top, right, bottom, left) < 0:
        raise ValueError(f"a canvas can't grow by {top}, {right}, {bottom}, {left} cells; use 0 or more on each side")
    height, width = canvas.size
    larger = Canvas.empty(len(canvas.indices), top + height + bottom, left + width + right)
    padding = (0.0 if bottom else canvas.padding[0], 0.0 if right else canvas.padding[1])
    wrap = wrap_of(canvas.wraps("width") and not left + right, canvas.wraps("height") and not top + bottom)
    return larger.paste(canvas, top, left).with_padding(padding).with_wrap(wrap)


@torch.inference_mode()
def blend(vqgan: FirstStage, a: Canvas, b: Canvas, amount: Tensor) -> Canvas:
    """Cell by cell the code nearest to a mix of two codes.

    Args:
        a, b: canvases of one size. Where only one knows a cell, that one counts.
        amount: of b, 0..1, as a mask [1 or B, H, W] of any size.
    Raises:
        ValueError: canvases of different sizes, or codes that the VQGAN does not have.
    """
    if a.size != b.size or len(a.indices) != len(b.indices):
        raise ValueError(
            f"a canvas of {tuple(a.indices.shape)} can't be blended with one of {tuple(b.indices.shape)}; "
            "crop or repeat one of them first"
        )
    share = mask_to_cells(amount, a).unsqueeze(1)  # [1 or B, 1, h, w]
    codes = vqgan.codebook.codes.cpu().float()  # wherever the host keeps the model, canvases are here
    for canvas in (a, b):
        check_indices(canvas.indices, len(codes))
    rows = [F.embedding(canvas.indices, codes).movedim(-1, 1) for canvas in (a, b)]  # [B, D, h, w] each
    mixed = nearest_code(as_rows(torch.lerp(rows[0], rows[1], share.expand_as(rows[0]))), codes).view(a.indices.shape)
    indices = torch.where(a.known & b.known, mixed, torch.where(a.known, a.indices, b.indices))
    return a.with_cells(indices, a.known | b.known)
