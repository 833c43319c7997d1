"""Maps that lie beside pictures, in a folder of their own under the same names: depth, or labels of segments."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageColor
from torch import Tensor
from tqdm import tqdm

from ....core.conditions.maps import labels_from_colors, labels_from_gray
from ....core.images.io import open_image, to_tensor
from ...config.condition import SourceConfig
from ..augment import Placement, overlay
from ..places import SUFFIXES

ROTATED = (5, 6, 7, 8)  # of a camera's orientation: lying on a side
ORIENTATION = 274  # its place among what a camera writes


@dataclass(frozen=True)
class PairedMaps:
    """The map of each picture, by the picture's name; `palette`, the labels' colors [n, 3] in 0..255 if they have
    any."""

    files: dict[str, Path]
    palette: Tensor | None

    def gray(self, name: str, placement: Placement) -> Tensor:
        """A map as a view shows it, drawn as the picture is: [1, H, W] in -1..1, black beside it."""
        drawn = open_image(self.files[name])
        if not placement.covers:
            drawn = drawn.convert("RGBA")
        black = np.zeros((placement.side, placement.side, 3), np.float32)
        view = overlay(black, drawn, placement.scale, np.array(placement.center), placement.flip)
        return torch.from_numpy(view).mean(2)[None] * 2 - 1

    def labels(self, name: str, placement: Placement) -> Tensor:
        """A map of labels as a view shows it, each pixel the nearest one of the map: [H, W] int64, 0 beside it."""
        return nearest(read_labels(self.files[name], self.palette), placement)

    def fingerprint(self) -> str:
        """Of names, palette and all that is in the files."""
        digest = hashlib.sha256(repr(None if self.palette is None else self.palette.tolist()).encode())
        for name, path in tqdm(self.files.items(), desc="looking through maps", unit="map", disable=None, leave=False):
            digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


def find_maps(config: SourceConfig, pictures: str, names: list[str]) -> PairedMaps:
    """The map of each picture.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: a picture without a map, or with one of another size; a label that is not there.
    """
    folder = Path(config.folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"condition.folder {folder} is not a folder; set it to where the maps are")
    found = (path for path in sorted(folder.rglob("*.*")) if path.suffix.lower() in SUFFIXES)
    stems = {path.relative_to(folder).with_suffix("").as_posix(): path for path in found}
    files = {name: stems.get(Path(name).with_suffix("").as_posix()) for name in names}
    if missing := [name for name, path in files.items() if path is None]:
        raise ValueError(
            f"{len(missing)} of {len(names)} pictures have no map, such as {missing[0]}; put one of the same name into "
            f"condition.folder {folder}"
        )
    palette = None
    if config.palette:
        palette = torch.tensor([ImageColor.getrgb(color)[:3] for color in config.palette])
    maps = PairedMaps({name: path for name, path in files.items() if path is not None}, palette)
    for name, path in tqdm(maps.files.items(), desc="checking maps", unit="map", disable=None, leave=False):
        picture, own = size_of(Path(pictures) / name), size_of(path)
        if picture != own:
            raise ValueError(
                f"the map {path} is {own[0]}x{own[1]} pixels, its picture {name} {picture[0]}x{picture[1]}; scale one "
                "of them, labels by the nearest pixel"
            )
        if config.kind == "segmentation":
            check_labels(read_labels(path, palette), path, len(config.palette) or config.labels)
    return maps


def size_of(path: Path) -> tuple[int, int]:
    """Width and height as the picture is shown, without reading it whole."""
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            turned = picture.getexif().get(ORIENTATION) in ROTATED
    except OSError as error:
        raise ValueError(f"{path} can't be read as a picture ({error}); replace it") from error
    return (height, width) if turned else (width, height)


def read_labels(path: Path, palette: Tensor | None) -> Tensor:
    """The labels of a map, [H, W] int64: the nearest color of the palette, or without one gray levels, or the numbers
    of the colors of a file that has its own palette."""
    with Image.open(path) as picture:
        if palette is None and picture.mode in ("P", "L"):
            return torch.from_numpy(np.asarray(picture).astype(np.int64))
    image = to_tensor(open_image(path))
    try:
        return (labels_from_gray(image) if palette is None else labels_from_colors(image, palette))[0]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def check_labels(labels: Tensor, path: Path, number: int) -> None:
    """Raise ValueError for labels beyond those that there are."""
    if (highest := int(labels.max())) >= number:
        raise ValueError(
            f"the map {path} holds label {highest}, condition.labels is {number}: 0 to {number - 1}; "
            f"{'255 often marks what is unlabelled: give that a label of its own' if highest == 255 else 'raise it'}"
        )


def nearest(labels: Tensor, placement: Placement) -> Tensor:
    """A map [H, W] in a view, each pixel the nearest one of the map, 0 beside it: [side, side]."""
    middle = torch.arange(placement.side) + 0.5
    height, width = labels.shape
    direction = -1 if placement.flip else 1
    columns = ((middle - placement.center[0]) / (placement.scale * direction) + width / 2).floor().long()
    rows = ((middle - placement.center[1]) / placement.scale + height / 2).floor().long()
    view = labels[rows.clamp(0, height - 1)][:, columns.clamp(0, width - 1)]
    if placement.covers:
        return view
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    return view.where(inside, 0)
