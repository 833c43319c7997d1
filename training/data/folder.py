"""Pictures from a folder: the train/validation split, augmented views, and an endless resumable stream."""

import hashlib
import logging
import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ...core.conditions.edges import canny
from ...core.images.io import read_picture
from ..config.runs import DataConfig
from .augment import FIRM_WIDTH, random_width, render_neighbours, render_view, widened

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}


SMALLEST_SIDE = 16  # pixels; smaller pictures teach nothing


logger = logging.getLogger("tessera")


def find_pictures(config: DataConfig) -> list[Path]:
    """Picture files below the folder, sorted by name. Corrupt and tiny ones are named and left out.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no usable picture in it.
    """
    folder = Path(config.folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"data.folder {folder} is not a folder; set it to where your pictures are")
    usable = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        try:
            with Image.open(path) as picture:
                width, height = picture.size
        except Exception as error:
            logger.warning("skipped %s: not readable as a picture (%s)", path, error)
            continue
        if min(width, height) < SMALLEST_SIDE:
            logger.warning("skipped %s: %dx%d pixels is too small", path, width, height)
            continue
        usable.append(path)
    if not usable:
        raise ValueError(f"data.folder {folder} holds no usable picture; PNG, JPEG, WebP, BMP and TIFF are read")
    return usable


def split_pictures(paths: list[Path], config: DataConfig) -> tuple[list[Path], list[Path]]:
    """Training and validation pictures. A drawing's side is drawn from a hash of its name without the
    variant suffix, so variants stay together and adding pictures never moves old ones across.

    Raises:
        ValueError: one side would be empty.
    """
    sides: tuple[list[Path], list[Path]] = ([], [])
    for path in paths:
        drawing = re.sub(config.variants, "", path.stem) if config.variants else path.stem
        digest = hashlib.sha256(drawing.encode()).digest()
        fraction = int.from_bytes(digest[:8], "big") / 2**64
        sides[fraction < config.validation].append(path)
    if not all(sides):
        raise ValueError(
            f"of {len(paths)} pictures {len(sides[1])} fall into validation at data.validation "
            f"{config.validation}; use more pictures or another share"
        )
    return sides


class Views(Dataset):
    """Views of pictures: item (epoch, i) is picture i as augmented in that epoch, the same every time.

    Args:
        paths: picture files.
        config: how a view is made.
        seed: base of all randomness.
        augment: False gives the plain centred picture on the first background.
    """

    def __init__(self, paths: list[Path], config: DataConfig, seed: int, augment: bool):
        self.paths, self.config, self.seed, self.augment = paths, config, seed, augment

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        """`color` [3, H, W], `edges` [1, H, W] as a prior is given them and `lines` [1, H, W], the same ones
        always `FIRM_WIDTH` wide, all in -1..1."""
        epoch, index = key
        rng = np.random.default_rng([self.seed, epoch, index])
        if self.augment and self.config.neighbours and rng.random() < self.config.neighbours:
            pixels = render_neighbours(lambda: self.load(rng.integers(len(self))), self.config, rng)
        else:
            pixels = render_view(self.load(index), self.config, rng if self.augment else None)
        if self.augment:
            low, blur = rng.uniform(*self.config.edge_low), rng.uniform(*self.config.edge_blur)
            width = random_width(self.config.edge_width, rng)
        else:
            low, blur = sum(self.config.edge_low) / 2, sum(self.config.edge_blur) / 2
            width = self.config.edge_width[0]
        thin = canny(pixels, low, 2 * low, blur)
        edges, lines = (torch.from_numpy(widened(thin, w)).unsqueeze(0) for w in (width, FIRM_WIDTH))
        color = torch.from_numpy(pixels).permute(2, 0, 1)
        return {"color": color / 127.5 - 1, "edges": edges / 127.5 - 1, "lines": lines / 127.5 - 1}

    def load(self, index: int) -> Image.Image:
        """Picture `index`, or the next readable one, naming those that are not."""
        for offset in range(len(self.paths)):
            path = self.paths[(index + offset) % len(self.paths)]
            try:
                return read_picture(path)
            except ValueError as error:
                logger.warning("skipped %s", error)
        raise ValueError(f"none of {len(self.paths)} pictures can be read")


def given_and_wanted(views: dict[str, Tensor], picture: str) -> tuple[Tensor, Tensor]:
    """What a VQGAN of "color" or "edges" is shown, and what it shall draw: the same picture, but firm lines whatever
    the width of those given, so that no code is spent on it. Views batched or single."""
    return views[picture], views["lines" if picture == "edges" else picture]
