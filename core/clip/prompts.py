"""What an image should come near to, or keep away from: words, images, noise, for all of it or a region.

    a strawberry with a crown | in the style of an icon:0.5 | letters:-0.3

Prompts are separated by `|`. At most two numbers after colons at the end are its weight and its stop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

MAX_WEIGHT = 1000.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompt:
    """One prompt: `text`, `image` or `noise`, exactly one of them.

    weight: how strongly it pulls; negative, how strongly it repels.
    stop: a view nearer than this spherical distance (0 to 4.93, with a negative weight -4.93 to 0) is near enough
        and is left alone.
    region: [H, W] in 0..1 of any size, stretched over the image; None is the whole image.

    Raises ValueError for none of them or several, an empty text, and weights that are no numbers.
    """

    text: str = ""
    image: Tensor | None = None  # [1, 3, H, W] in 0..1
    noise: int | None = None  # the seed of a random direction: variety for little
    weight: float = 1.0
    stop: float = -math.inf
    region: Tensor | None = None

    def __post_init__(self):
        given = bool(self.text.strip()) + (self.image is not None) + (self.noise is not None)
        if given != 1:
            raise ValueError(
                "a prompt is empty; give it words, a picture or noise"
                if not given
                else "a prompt has several of words, picture and noise; make several prompts"
            )
        if not math.isfinite(self.weight) or abs(self.weight) > MAX_WEIGHT or not self.weight:
            raise ValueError(f"a prompt's weight is {self.weight}; choose a number other than 0, up to {MAX_WEIGHT:g}")
        if math.isnan(self.stop):
            raise ValueError("a prompt's stop is no number; choose a distance, such as 0.7")
        if self.region is not None and (self.region.ndim != 2 or not self.region.any()):
            raise ValueError(f"a region is {tuple(self.region.shape)} or empty; paint a mask [H, W]")


def parse_prompts(text: str) -> list[Prompt]:
    """Prompts from `text:weight:stop | text | ...`.

    From the right at most two pieces that are numbers count as weight and stop, so "at 12:30 in London" stays whole.
    To end a text with a number after a colon, add the weight: "ratio 4:3:1".

    Raises:
        ValueError: nothing in it, or an empty prompt beside others.
    """
    pieces = [piece.strip() for piece in text.split("|")]
    if not any(pieces):
        raise ValueError("the prompt is empty; describe the picture in a few words")
    if not all(pieces):
        raise ValueError(f"there is an empty prompt in {text!r}; take out a |")
    return [_parse(piece) for piece in pieces]


def _parse(piece: str) -> Prompt:
    parts, numbers = piece.split(":"), []
    while len(parts) > 1 and len(numbers) < 2 and (number := _number(parts[-1])) is not None:
        numbers.insert(0, number)
        parts.pop()
    weight, stop = [*numbers, 1.0, -math.inf][:2] if len(numbers) != 1 else (numbers[0], -math.inf)
    return Prompt(text=":".join(parts).strip(), weight=weight, stop=stop)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
