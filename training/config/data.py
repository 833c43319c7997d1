"""Which pictures a run learns from."""

import re
from dataclasses import dataclass
from typing import Literal

from PIL import ImageColor

from .checks import check_numbers, check_ranges, check_shares, expand_paths

MAX_SIZE = 8192  # pixels a side of a view


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which pictures, and how a training view of one is made."""

    folder: str  # searched with its sub-folders; or shards: a folder or address with manifest.json, a pattern of .tar
    size: int = 256  # pixels per side of a training view
    picture: Literal["color", "edges", "condition"] = "color"  # what a VQGAN learns; condition: maps of that section
    validation: float = 0.08  # share of the drawings held out, where no captions.tsv in the folder says which
    max_validation: int = 2000  # pictures that a validation looks at, however many are held out
    variants: str = ""  # regular expression; names equal after removing it are variants of one drawing
    backgrounds: tuple[str, ...] = ("#ffffff",)  # colors behind transparency, or "random"
    flip: bool = True
    zoom: tuple[float, float] = (1.0, 1.0)  # 1 fits the whole picture (with alpha) or covers the view
    shift: float = 0.0  # at most this share of the view, each way
    hue: float = 0.0  # at most this share of the color circle, each way
    neighbors: float = 0.0  # share of the views that show several pictures, as a window on a larger canvas does
    edge_low: tuple[float, float] = (50.0, 150.0)  # range of Canny's lower threshold; upper is twice it
    edge_blur: tuple[float, float] = (0.6, 1.6)  # range of sigma in pixels
    edge_width: tuple[int, int] = (1, 1)  # range in pixels of the lines as given; wide ones are as drawn by hand
    buffer: int = 500  # pictures of a shard that are shuffled among themselves
    workers: int = 0  # loader processes

    def __post_init__(self):
        expand_paths(self, "data.", "folder")
        if not 0 < self.validation < 1:
            raise ValueError(f"data.validation is {self.validation}; choose a share between 0 and 1, such as 0.08")
        check_numbers(self, "data.", ("max_validation", "buffer"), 1)
        check_numbers(self, "data.", ("size",), 16, MAX_SIZE)
        check_numbers(self, "data.", ("workers",), 0, 1024)
        check_shares(self, "data.", "shift", "hue", "neighbors")
        check_ranges(self, "data.", ("zoom",), 0.05, 20)
        check_ranges(self, "data.", ("edge_low", "edge_blur"), 0, 1000)
        check_ranges(self, "data.", ("edge_width",), 1, 100)
        check_colors(self.backgrounds)
        try:
            re.compile(self.variants)
        except re.error as error:
            raise ValueError(f"data.variants is {self.variants!r}; write a regular expression ({error})") from error


def check_colors(backgrounds: tuple[str, ...]) -> None:
    """Raise ValueError for backgrounds that are no colors, or none at all."""
    try:
        for color in set(backgrounds) - {"random"}:
            ImageColor.getrgb(color)
    except ValueError as error:
        raise ValueError(f"data.backgrounds: {error}; write colors such as '#ffffff' or white, or random") from error
    if not backgrounds:
        raise ValueError("data.backgrounds is empty; name at least one color, or random")
