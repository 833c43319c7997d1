"""Pictures from a folder: which there are, the train/validation split, and views of them."""

import hashlib
import logging
import os
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from ...core.conditions.edges import EdgeSettings, canny_array
from ...core.images.io import open_image
from ..config.runs import DataConfig
from ..engine.distributed import rank_and_world
from .augment import FIRM_WIDTH, Placement, place, random_width, render_neighbors, render_view, widen
from .conditions.sources import Source, View
from .index import PictureIndex
from .places import SUFFIXES, parts_below, path_below

MIN_SIDE = 16  # pixels; smaller pictures teach nothing

logger = logging.getLogger("tessera")


def files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder, those behind links too. Every real folder is entered once, by its own path where it has
    one below `folder`: links that lead in a circle end, and no picture comes under two names."""
    entered: set[Path] = set()
    waiting = deque([folder])
    while waiting:
        for found, names, files in os.walk(waiting.popleft()):
            here, real = Path(found), Path(found).resolve()
            if real in entered:
                names.clear()
                continue
            entered.add(real)
            waiting.extend(here / name for name in sorted(names) if (here / name).is_symlink())
            yield from (here / name for name in files)


def find_images(config: DataConfig, index: PictureIndex | None = None) -> list[Path]:
    """Picture files below the folder, sorted by name. Corrupt and tiny ones are named and left out.

    Args:
        index: what is known of them already.
    Raises:
        FileNotFoundError: no such folder.
        ValueError: no usable picture in it.
    """
    return scan_folder(config, index)[0]


def scan_folder(config: DataConfig, index: PictureIndex | None = None) -> tuple[list[Path], str]:
    """`find_images`, and how many files of which other kinds there are, in words."""
    folder = Path(config.folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"data.folder {folder} is not a folder; set it to where your pictures are")
    files, others, index = [], Counter(), index or PictureIndex()
    for path in files_below(folder):
        kind = path.suffix.lower()
        if kind in SUFFIXES:
            files.append((path.parts, path))
        else:
            others[kind or path.name] += 1
    files = [path for _, path in sorted(files)]
    usable = [path for path in tqdm(files, desc="looking at pictures", disable=None, leave=False) if known(path, index)]
    words = ", ".join(f"{count} {kind}" for kind, count in others.most_common(5))
    if not usable:
        found = f"; it holds {words}" if words else ""
        raise ValueError(f"data.folder {folder} holds no usable picture; PNG, JPEG, WebP, BMP and TIFF are read{found}")
    return usable, words


def known(path: Path, index: PictureIndex) -> bool:
    """Whether a file is usable; it is opened if the index doesn't say so."""
    try:
        if index.knows(path):
            return True
        if usable := is_usable(path):
            index.add(path)
        return usable
    except OSError as error:  # gone meanwhile, or a link to nothing
        logger.warning("skipped %s: %s", path, error)
        return False


def is_usable(path: Path) -> bool:
    """Whether a file is a picture and large enough; if not, it is named."""
    try:
        with Image.open(path) as picture:
            width, height = picture.size
    except Exception as error:
        logger.warning("skipped %s: not readable as a picture (%s)", path, error)
        return False
    if min(width, height) < MIN_SIDE:
        logger.warning("skipped %s: %dx%d pixels is too small", path, width, height)
        return False
    return True


def identity(path: Path, config: DataConfig) -> str:
    """What a drawing is called: its path below the folder, without the ending and what tells variants apart."""
    name = re.sub(config.variants, "", path.stem) if config.variants else path.stem
    return "/".join((*parts_below(path, config)[:-1], name))


def split_images(paths: list[Path], config: DataConfig) -> tuple[list[Path], list[Path]]:
    """Training and validation pictures. A drawing's side is drawn from a hash of its identity, so variants stay
    together and adding pictures never moves old ones across. Where all would fall on one side, the drawing nearest to
    the border takes the other; a single drawing is on both."""
    names = [identity(path, config) for path in paths]
    place = {name: int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8], "big") / 2**64 for name in names}
    if len(place) == 1:
        logger.warning("there is only one drawing: what is called held out below is what is learned from")
        return paths, paths
    held_out = {name for name in place if place[name] < config.validation}
    if not held_out or len(held_out) == len(place):
        held_out ^= {min(place, key=lambda name: abs(place[name] - config.validation))}
    sides: tuple[list[Path], list[Path]] = ([], [])
    for path, name in zip(paths, names, strict=True):
        sides[name in held_out].append(path)
    return sides


def load_split(config: DataConfig, output: str | None = None) -> tuple[list[Path], list[Path]]:
    """The pictures of the folder to learn from and those held out, at most `max_validation`; says how many, and what
    was passed over. What is known of the files is kept in the folder `output`, by the first of several processes."""
    index = PictureIndex(output)
    pictures, others = scan_folder(config, index)
    if rank_and_world()[0] == 0:
        index.save()
    learned, held_out = split_images(pictures, config)
    held_out = evenly_spaced(held_out, config.max_validation)
    logger.info("%d pictures to learn from, %d held out", len(learned), len(held_out))
    if others:
        logger.info("passed over files of other kinds: %s", others)
    return learned, held_out


def evenly_spaced(items: list, number: int) -> list:
    """At most `number` of the items, from all over the list."""
    number = min(len(items), number)
    return [items[i * len(items) // number] for i in range(number)]


class ImageViews(Dataset):
    """Views of pictures: item (epoch, i) is picture i as augmented in that epoch, the same every time.

    Args:
        paths: picture files.
        config: how a view is made.
        seed: base of all randomness.
        augment: False gives the plain centered picture on the first background.
        source: where each view's condition comes from.
    """

    def __init__(self, paths: list[Path], config: DataConfig, seed: int, augment: bool, source: Source | None = None):
        self.paths, self.config, self.seed, self.augment, self.source = paths, config, seed, augment, source
        self.skipped: set[Path] = set()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        """`color` [3, H, W], `edges` [1, H, W] as a prior is given them and `lines` [1, H, W], the same ones
        always `FIRM_WIDTH` wide, all in -1..1; and `condition`, what the source gives."""
        epoch, index = key
        rng = np.random.default_rng([self.seed, epoch, index])
        opened = self.paths[index]

        def load() -> Image.Image:
            nonlocal opened
            opened, picture = self.load(index)
            return picture

        item, placement = make_views(
            load, lambda: self.load(rng.integers(len(self)))[1], self.config, rng, self.augment
        )
        if self.source is None:
            return item
        name = path_below(opened, self.config).as_posix()
        view = View(name, placement, item["color"], item["edges"], rng if self.augment else None)
        return item | {"condition": self.source.of(view)}

    def load(self, index: int) -> tuple[Path, Image.Image]:
        """Picture `index`, or the next readable one; those that are not, or no longer there, are named once."""
        for offset in range(len(self.paths)):
            path = self.paths[(index + offset) % len(self.paths)]
            try:
                return path, open_image(path)
            except (ValueError, OSError) as error:
                if path not in self.skipped:
                    logger.warning("skipped %s", error)
                self.skipped.add(path)
        raise ValueError(f"none of {len(self.paths)} pictures can be read")


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
