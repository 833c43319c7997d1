"""Scene layouts: which objects stand where, as prefix tokens (the paper's coarse scene layouts).

92 tokens: 30 times (object, top-left corner, bottom-right corner), then the picture's own two corners.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

MOST_OBJECTS = 30
PREFIX_LENGTH = 3 * MOST_OBJECTS + 2


class Box(NamedTuple):
    """An object: its class, and its rectangle as shares of the picture, 0..1."""

    label: int
    left: float
    top: float
    width: float
    height: float


def layout_tokens(boxes: list[Box], vocabulary: int) -> Tensor:
    """Prefix tokens of one scene, [1, 92] int64.

    Args:
        boxes: at most 30; a label is class + classes x modifiers (group 1, occluded 2, depiction 4, inside 8).
        vocabulary: tokens the prior knows; the last one stands for "no object".
    Raises:
        ValueError: too many boxes, an unknown label, or a box outside the picture.
    """
    if len(boxes) > MOST_OBJECTS:
        raise ValueError(f"the layout has {len(boxes)} boxes; at most {MOST_OBJECTS} fit, remove some")
    nothing = vocabulary - 1
    tokens = []
    for box in boxes:
        right, bottom = box.left + box.width, box.top + box.height
        if not (0 <= box.left <= right <= 1 + 1e-6 and 0 <= box.top <= bottom <= 1 + 1e-6):
            raise ValueError(f"box {tuple(box)} leaves the picture; left, top, width and height are shares of 0 to 1")
        if not 0 <= box.label < nothing:
            raise ValueError(f"label {box.label} does not exist; choose 0 to {nothing - 1}")
        tokens += [box.label, corner(box.left, box.top, vocabulary), corner(right, bottom, vocabulary)]
    tokens += [nothing] * (3 * MOST_OBJECTS - len(tokens))
    tokens += [corner(0, 0, vocabulary), corner(1, 1, vocabulary)]
    return torch.tensor([tokens])


def corner(x: float, y: float, vocabulary: int) -> int:
    """A point of the picture as one token: its place on the finest square grid that the vocabulary holds."""
    steps = math.isqrt(vocabulary) - 1
    return round(min(y, 1) * steps) * (steps + 1) + round(min(x, 1) * steps)
