"""Scene layouts: which objects stand where, as prefix tokens (the paper's coarse scene layouts).

92 tokens: 30 times (object, top-left corner, bottom-right corner), then the picture's own two corners.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..geometry import Window
from .base import Condition

MAX_OBJECTS = 30
PREFIX_LENGTH = 3 * MAX_OBJECTS + 2


class Box(NamedTuple):
    """An object: its class, and its rectangle as shares of the picture, 0..1."""

    label: int
    left: float
    top: float
    width: float
    height: float


def layout_tokens(boxes: list[Box], vocabulary: int, crop: Box | None = None) -> Tensor:
    """Prefix tokens of one scene, [1, 92] int64.

    Args:
        boxes: at most 30; a label is class + classes x modifiers (group 1, occluded 2, depiction 4, inside 8).
        vocabulary: tokens the prior knows; the last one stands for "no object".
        crop: the part of the picture to be made, its label of no account; objects beside it are left out. All of it
            if None.
    Raises:
        ValueError: too many boxes, an unknown label, or a box outside the picture.
    """
    if len(boxes) > MAX_OBJECTS:
        raise ValueError(f"the layout has {len(boxes)} boxes; at most {MAX_OBJECTS} fit, remove some")
    nothing = vocabulary - 1
    crop = crop or Box(0, 0, 0, 1, 1)
    tokens = []
    for box in boxes:
        right, bottom = box.left + box.width, box.top + box.height
        if not (0 <= box.left <= right <= 1 + 1e-6 and 0 <= box.top <= bottom <= 1 + 1e-6):
            raise ValueError(f"box {tuple(box)} leaves the picture; left, top, width and height are shares of 0 to 1")
        if not 0 <= box.label < nothing:
            raise ValueError(f"label {box.label} does not exist; choose 0 to {nothing - 1}")
        if overlap(box, crop):
            tokens += [box.label, *corners(box, vocabulary)]
    tokens += [nothing] * (3 * MAX_OBJECTS - len(tokens))
    return torch.tensor([[*tokens, *corners(crop, vocabulary)]])


def corners(box: Box, vocabulary: int) -> tuple[int, int]:
    """The tokens of a box's top left and bottom right corner."""
    return (
        corner(box.left, box.top, vocabulary),
        corner(box.left + box.width, box.top + box.height, vocabulary),
    )


def corner(x: float, y: float, vocabulary: int) -> int:
    """A point of the picture as one token: its place on the finest square grid that the vocabulary holds."""
    steps = math.isqrt(vocabulary) - 1
    return round(min(y, 1) * steps) * (steps + 1) + round(min(x, 1) * steps)


def overlap(a: Box, b: Box) -> bool:
    """True for boxes with an area in common."""
    wide = min(a.left + a.width, b.left + b.width) - max(a.left, b.left)
    tall = min(a.top + a.height, b.top + b.height) - max(a.top, b.top)
    return wide > 0 and tall > 0


@dataclass(frozen=True)
class LayoutCondition:
    """A scene on a canvas of any size: each window is told its own corners and only the objects it touches.

    canvas_size: (h, w) of the canvas in cells.
    vocabulary: as for `layout_tokens`.
    offset: first vocabulary row of the tokens.
    unconditional: what the prior is given when nothing is to guide it; None if it has not learned that.
    """

    boxes: list[Box]
    canvas_size: tuple[int, int]
    vocabulary: int
    offset: int = 0
    unconditional: Condition | None = None

    def prefix(self, window: Window) -> Tensor:
        """The scene as the window sees it, [1, 92]; what reaches over the canvas's borders counts for nothing."""
        height, width = self.canvas_size
        left, right = max(0, window.left), min(width, window.left + window.width)
        top, bottom = max(0, window.top), min(height, window.top + window.height)
        crop = Box(0, left / width, top / height, (right - left) / width, (bottom - top) / height)
        return layout_tokens(self.boxes, self.vocabulary, crop) + self.offset
