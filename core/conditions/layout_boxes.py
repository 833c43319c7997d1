"""Boxes of a scene layout as people write them, and as a picture to look at."""

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..images.io import to_tensor
from ..storage.door import brief
from .layout import Box
from .maps import colorize_labels

GROUND = (64, 64, 64)
COLORS = 256  # after so many labels the colors come again


def parse_boxes(text: str) -> list[Box]:
    """One box a line, "label left top width height": a whole number, then shares of the picture, 0 to 1.

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
