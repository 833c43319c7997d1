"""Views of pictures, wherever these lie."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ...core.conditions.edges import EdgeSettings, canny_array
from ..config.runs import DataConfig
from .augment import FIRM_WIDTH, Placement, place, random_width, render_neighbors, render_view, widen
from .conditions.sources import Source, View

PART = 256  # pictures whose codes are written at once: what a stopped run encodes again at most


class Views(Dataset):
    """Views of pictures: item (epoch, i) is picture i as augmented in that epoch, the same every time.

    Args:
        config: how a view is made.
        seed: base of all randomness.
        augment: False gives the plain centered picture on the first background.
        source: what a prior is told of each view.
    """

    def __init__(self, config: DataConfig, seed: int, augment: bool, source: Source | None = None):
        self.config, self.seed, self.augment, self.source = config, seed, augment, source

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        """`color` [3, H, W], `edges` [1, H, W] as a prior is given them and `lines` [1, H, W], the same ones
        always `FIRM_WIDTH` wide, all in -1..1; and `condition`, what the source says."""
        epoch, index = key
        rng = np.random.default_rng([self.seed, epoch, index])
        name = self.name(index)

        def load() -> Image.Image:
            nonlocal name
            name, picture = self.load(index)
            return picture

        item, placement = make_views(load, lambda: self.load(self.other(index, rng))[1], self.config, rng, self.augment)
        if self.source is None:
            return item
        view = View(name, placement, item["color"], item["edges"], rng if self.augment else None)
        return item | {"condition": self.source.of(view)}

    def __len__(self) -> int:
        raise NotImplementedError

    def name(self, index: int) -> str:
        """What picture `index` is called."""
        raise NotImplementedError

    def load(self, index: int) -> tuple[str, Image.Image]:
        """Picture `index` and its name, or those of the next readable one; broken ones are named."""
        raise NotImplementedError

    def other(self, index: int, rng: np.random.Generator) -> int:
        """A picture to stand beside picture `index`."""
        return int(rng.integers(len(self)))

    def parts(self) -> list[range]:
        """The pictures in parts that are encoded, and written, at once."""
        return [range(start, min(start + PART, len(self))) for start in range(0, len(self), PART)]

    def unguided(self, config: DataConfig) -> Views:
        """Augmented views of the same pictures made another way, of which a prior is told nothing."""
        raise NotImplementedError

    def fingerprint(self, output: str) -> str:
        """Of the names, in order, and of what is in the files: an edited picture is another one. What is known of the
        files is kept in the folder `output`."""
        raise NotImplementedError


def make_views(
    load: Callable[[], Image.Image],
    others: Callable[[], Image.Image],
    config: DataConfig,
    rng: np.random.Generator,
    augment: bool,
) -> tuple[dict[str, Tensor], Placement | None]:
    """One view of the picture that `load` gives, and where it shows it; or of several that `others` gives one after
    another: see `ImageViews`."""
    placement = None
    if augment and config.neighbors and rng.random() < config.neighbors:
        pixels = render_neighbors(others, config, rng)
    else:
        picture = load()
        placement = place(picture, config, rng if augment else None)
        pixels = render_view(picture, placement, config, rng if augment else None)
    if augment:
        low, blur = rng.uniform(*config.edge_low), rng.uniform(*config.edge_blur)
        width = random_width(config.edge_width, rng)
    else:
        low, blur = sum(config.edge_low) / 2, sum(config.edge_blur) / 2
        width = config.edge_width[0]
    thin = canny_array(pixels, EdgeSettings(low=low, high=2 * low, blur=blur))
    edges, lines = (torch.from_numpy(widen(thin, w)).unsqueeze(0) for w in (width, FIRM_WIDTH))
    color = torch.from_numpy(pixels).permute(2, 0, 1)
    item = {"color": color / 127.5 - 1, "edges": edges / 127.5 - 1, "lines": lines / 127.5 - 1}
    return item, placement


def input_and_target(views: dict[str, Tensor], picture: str) -> tuple[Tensor, Tensor]:
    """What a VQGAN of "color", "edges" or "condition" is shown, and what it shall draw: the same picture, but firm
    lines whatever the width of those given, so that no code is spent on it. Views batched or single."""
    return views[picture], views["lines" if picture == "edges" else picture]
