"""Pictures from a folder: the train/validation split, augmented views, and an endless resumable stream."""

import hashlib
import itertools
import logging
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageColor
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ..core.edges import canny
from ..core.image import read_picture
from .config import DataConfig

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
SMALLEST_SIDE = 16  # pixels; smaller pictures teach nothing
FIRM_WIDTH = 3  # pixels, of the lines a VQGAN of edges learns to draw: a near miss of a thinner one would count as two
PITCH = (0.9, 1.3)  # range from one neighbour to the next, in shares of their size

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


def random_width(limits: tuple[int, int], rng: np.random.Generator) -> int:
    """A width in pixels; each doubling is as likely as the next, so most lines stay thin."""
    return int(np.exp(rng.uniform(np.log(limits[0]), np.log(limits[1] + 1))))


def widened(lines: np.ndarray, width: int) -> np.ndarray:
    """Lines [H, W] one pixel wide, as a round pen of `width` pixels draws them."""
    return cv2.dilate(lines, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))


def render_view(picture: Image.Image, config: DataConfig, rng: np.random.Generator | None) -> np.ndarray:
    """One square view: placed, mirrored, laid on a background, recoloured. [size, size, 3] uint8 RGB.

    Pictures with transparency are fitted into the view and lie on the background; opaque ones cover it.
    Without `rng` the view is plain: centred, unchanged, on the first background.
    """
    size = config.size
    zoom, shift, flip, hue = 1.0, np.zeros(2), False, 0.0
    background = config.backgrounds[0]
    if rng is not None:
        zoom = rng.uniform(*config.zoom)
        shift = rng.uniform(-config.shift, config.shift, 2) * size
        flip = config.flip and rng.random() < 0.5
        hue = rng.uniform(-config.hue, config.hue)
        background = config.backgrounds[rng.integers(len(config.backgrounds))]
    if picture.mode == "RGBA":
        scale = zoom * size / max(picture.size)
    else:
        scale = max(zoom, 1.0) * size / min(picture.size)
        slack = np.array(picture.size) * scale / 2 - size / 2  # how far it may move and still cover
        shift = np.clip(shift, -slack, slack)
    view = np.broadcast_to(behind(background, rng), (size, size, 3))
    return recoloured(laid_over(view, picture, scale, size / 2 + shift, flip), hue)


def render_neighbours(pictures: Callable[[], Image.Image], config: DataConfig, rng: np.random.Generator) -> np.ndarray:
    """Parts of several pictures side by side, as a window on a larger canvas shows them. [size, size, 3] uint8 RGB.

    Args:
        pictures: gives a picture, another one each time.
    """
    size = config.size
    side = rng.uniform(*config.zoom) * size
    pitch = side * rng.uniform(*PITCH)
    columns, rows = (np.arange(first, size + side / 2, pitch) for first in rng.uniform(-side / 2, pitch - side / 2, 2))
    view = np.broadcast_to(behind(config.backgrounds[rng.integers(len(config.backgrounds))], rng), (size, size, 3))
    for x, y in itertools.product(columns, rows):
        picture = pictures()
        view = laid_over(view, picture, side / max(picture.size), np.array([x, y]), config.flip and rng.random() < 0.5)
    return recoloured(view, rng.uniform(-config.hue, config.hue))


def behind(background: str, rng: np.random.Generator | None) -> np.ndarray:
    """The colour of a background, [3] in 0..1; a random one is white where nothing is random."""
    if background == "random":
        return rng.uniform(0, 1, 3).astype(np.float32) if rng is not None else np.ones(3, np.float32)
    return np.array(ImageColor.getrgb(background)[:3], dtype=np.float32) / 255


def laid_over(view: np.ndarray, picture: Image.Image, scale: float, centre: np.ndarray, flip: bool) -> np.ndarray:
    """View [H, W, 3] in 0..1 with a picture on it, `scale` times as large, its middle at `centre` (x, y in pixels)."""
    has_alpha = picture.mode == "RGBA"
    rgba = np.asarray(picture.convert("RGBA"), dtype=np.float32) / 255
    rgba[..., :3] *= rgba[..., 3:]  # premultiplied, or resampling bleeds hidden colours into the outline
    height, width = rgba.shape[:2]
    if scale < 1:  # shrink by area first: a bilinear warp alone would alias
        shrunk = (max(1, round(width * scale)), max(1, round(height * scale)))
        rgba = cv2.resize(rgba, shrunk, interpolation=cv2.INTER_AREA)
        height, width, scale = rgba.shape[0], rgba.shape[1], 1.0
    matrix = np.array([[-scale if flip else scale, 0, 0], [0, scale, 0]])
    matrix[:, 2] = centre - 0.5 - matrix[:, :2] @ np.array([(width - 1) / 2, (height - 1) / 2])
    border = cv2.BORDER_CONSTANT if has_alpha else cv2.BORDER_REPLICATE
    rgba = cv2.warpAffine(rgba, matrix, view.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=border)
    return rgba[..., :3] + (1 - rgba[..., 3:]) * view


def recoloured(view: np.ndarray, hue: float) -> np.ndarray:
    """A view [H, W, 3] in 0..1 with its hue turned by a share of the circle, as uint8."""
    if hue:
        hsv = cv2.cvtColor(view.clip(0, 1).astype(np.float32), cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0] + hue * 360) % 360
        view = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return (view.clip(0, 1) * 255).round().astype(np.uint8)


class EndlessOrder(Sampler):
    """(epoch, index) pairs without end, reshuffled each epoch, beginning at item `start` of the stream.

    Of every `world` batches process `rank` takes one, so several processes see what one would.
    """

    def __init__(self, length: int, seed: int, batch: int, start: int = 0, rank: int = 0, world: int = 1):
        self.length, self.seed, self.batch = length, seed, batch
        self.start, self.rank, self.world = start, rank, world

    def __iter__(self) -> Iterator[tuple[int, int]]:
        position = self.start
        epoch, order = -1, None
        while True:
            if position // self.length != epoch:
                epoch = position // self.length
                generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
                order = torch.randperm(self.length, generator=generator).tolist()
            if (position - self.start) // self.batch % self.world == self.rank:
                yield epoch, order[position % self.length]
            position += 1


def endless(dataset: Dataset, seed: int, batch: int, start: int, workers: int, rank: int, world: int) -> Iterator:
    """Batches without end from item `start` of the shuffled stream; resuming there continues it exactly.

    The loader draws from a generator of its own: training's random state is the same however often it resumes.
    """
    order = EndlessOrder(len(dataset), seed, batch, start, rank, world)
    loader = DataLoader(
        dataset, batch, sampler=order, num_workers=workers,
        generator=torch.Generator(), worker_init_fn=ignore_interrupts,
    )  # fmt: skip
    return iter(loader)


def once(dataset: Dataset, batch: int) -> DataLoader:
    """Every item once, in order, as epoch 0."""
    return DataLoader(dataset, batch, sampler=[(0, i) for i in range(len(dataset))], generator=torch.Generator())


def ignore_interrupts(worker: int) -> None:
    """Leave Ctrl-C to the process that trains: it still needs a batch to finish its step and save."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
