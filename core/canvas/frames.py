"""Frames of animations: from one canvas to another, and around an image's own border."""

import torch
from torch import Tensor

from ..autoencoders.base import FirstStage
from .canvas import Canvas
from .edits import blend

MAX_FRAMES = 1024


def even_steps(first: float, last: float, frames: int, there_and_back: bool = False) -> list[float]:
    """`frames` numbers from first to last; there and back, the row can be shown again and again without a jump.

    Raises:
        ValueError: fewer than 2 frames, or too many.
    """
    if not 2 <= frames <= MAX_FRAMES:
        raise ValueError(f"{frames} frames make no animation; choose 2 to {MAX_FRAMES}")
    if there_and_back:
        shares = [1 - abs(2 * i / frames - 1) for i in range(frames)]
    else:
        shares = [i / (frames - 1) for i in range(frames)]
    return [first + (last - first) * share for share in shares]


def travel(vqgan: FirstStage, a: Canvas, b: Canvas, frames: int, there_and_back: bool = False) -> Canvas:
    """From one canvas to another: frame by frame the codes nearest to a mix of both, `blend` with a growing amount.

    Args:
        a, b: canvases of one image each, of one size.
    Returns:
        A canvas of as many images as frames; the first is a.
    """
    amounts = torch.tensor(even_steps(0.0, 1.0, frames, there_and_back)).view(-1, 1, 1)
    return blend(vqgan, a.repeat(frames), b.repeat(frames), amounts)


def roll_frames(image: Tensor, frames: int, right: int, down: int) -> Tensor:
    """An image that tiles, moved around its border in equal steps, so that the row ends where it began.

    Args:
        image: [1, C, H, W].
        right, down: how often around, as a whole; negative the other way.
    Returns:
        [frames, C, H, W].
    """
    even_steps(0, 1, frames)
    height, width = image.shape[-2:]
    shifts = [(round(down * height * i / frames), round(right * width * i / frames)) for i in range(frames)]
    return torch.cat([image.roll(shift, (-2, -1)) for shift in shifts])
