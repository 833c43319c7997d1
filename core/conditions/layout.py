"""Scene layouts: which objects stand where, as prefix tokens (the paper's coarse scene layouts), as text and as an
image to look at.

92 tokens: 30 times (object, top-left corner, bottom-right corner), then the image's own two corners.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..geometry import Window
from ..images.io import to_tensor
from ..storage.door import brief
from .base import Condition
from .maps import colorize_labels

MAX_OBJECTS = 30
PREFIX_LENGTH = 3 * MAX_OBJECTS + 2
GROUND = (64, 64, 64)  # of the view
COLORS = 256  # of the view: after this many labels they come again


class Box(NamedTuple):
    """An object: its class, and its rectangle as shares of the image, 0..1."""

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
        crop: the part of the image to be made, its label of no account; objects beside it are left out. All of it
            if None.
    Raises:
        ValueError: too many boxes, an unknown label, or a box outside the image.
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
    """A point of the image as one token: its place on the finest square grid that the vocabulary holds."""
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


def parse_boxes(text: str) -> list[Box]:
    """One box a line, "label left top width height": a whole number, then shares of the image, 0 to 1.

    Numbers are separated by spaces or commas; what follows a # and empty lines are left out.

    Raises:
        ValueError: a line that is no box.
    """
    boxes = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].replace(",", " ").split()
        if not words:
            continue
        try:
            label, (left, top, width, height) = int(words[0]), map(float, words[1:])
        except ValueError:
            raise ValueError(
                f"line {number} of the boxes is {brief(line)!r}; write label left top width height, like "
                "3 0.1 0.5 0.3 0.4"
            ) from None
        boxes.append(Box(label, left, top, width, height))
    return boxes


def boxes_view(boxes: list[Box], height: int, width: int) -> Tensor:
    """The boxes with their labels' numbers, later ones over earlier ones, in shades that differ from label to label:
    [1, 3, height, width] in -1..1."""
    image = Image.new("RGB", (width, height), GROUND)
    draw, font = ImageDraw.Draw(image, "RGBA"), ImageFont.load_default(max(10, min(height, width) // 14))
    for box in boxes:
        color = color_of(box.label)
        left, top = round(box.left * width), round(box.top * height)
        right, bottom = round((box.left + box.width) * width) - 1, round((box.top + box.height) * height) - 1
        corners = (left, top, max(left, right), max(top, bottom))
        draw.rectangle(corners, fill=(*color, 110), outline=(*color, 255), width=max(1, min(height, width) // 100))
        draw.text((left + 6, top + 4), str(box.label), fill="white", font=font)
    return to_tensor(image)


def color_of(label: int) -> tuple[int, int, int]:
    """A label's color, 0..255."""
    shade = colorize_labels(torch.tensor([[[label % COLORS]]]), COLORS).flatten()
    return tuple(((shade + 1) * 127.5).round().int().tolist())
