"""What guides a prior in training: one table, kind -> how a view yields its condition.

`core/conditions/kinds.py` does the same for sampling. To train with a new kind, write what opens its source and give it
a row in `SOURCES`. A source says what a VQGAN will encode, an image [C, H, W], or the tokens themselves, [P]; what is
said of a view moves with its picture, since both are made from one `Placement`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ....core.conditions.layout import layout_tokens
from ....core.conditions.maps import depth, low_resolution, segmentation
from ....core.conditions.spatial import coordinate_tokens
from ....core.conditions.vocabulary import Vocabulary
from ....core.conditions.words import word_tokens
from ....core.inspection import inspect_model
from ....core.storage.fingerprint import fingerprint
from ...config.condition import SourceConfig
from ...config.runs import DataConfig
from ..augment import Placement
from ..places import path_below
from .boxes import Scene, read_scenes, scene_in_view
from .classes import read_classes, read_table
from .paired_maps import PairedMaps, find_maps
from .words import learn_words

STEPS = 1024  # of coordinates
CORNERS = 1024  # tokens at least that a layout's corners are told in: a grid of 32 x 32


@dataclass(frozen=True)
class View:
    """A view of a picture, as far as its condition may depend on it.

    name: the picture's path below the folder. placement: None for several pictures side by side. color [3, H, W] and
    edges [1, H, W] in -1..1. random: None for a plain view.
    """

    name: str
    placement: Placement | None
    color: Tensor
    edges: Tensor
    random: np.random.Generator | None = None


@dataclass(frozen=True)
class Source:
    """What guides the views of some pictures.

    of: a view's condition: an image [C, H, W] for a VQGAN to encode, or tokens [P] int64.
    rows: tokens there are; 0 for images.
    labels: classes, segments, categories or steps there are.
    crops: held-out pictures are shown as augmented views, too: what is told depends on where the view is.
    made_from: changes with whatever it was read from.
    names: of classes or categories, by number. vocabulary: of captions.
    """

    of: Callable[[View], Tensor]
    rows: int = 0
    labels: int = 0
    crops: bool = False
    made_from: str = ""
    names: tuple[str, ...] = ()
    vocabulary: Vocabulary | None = None


@dataclass(frozen=True)
class Pictures:
    """The pictures of a run, as paths below its folder; `vqgan` is the file that encodes them."""

    data: DataConfig
    learned: list[str] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)
    vqgan: str = ""

    @property
    def names(self) -> list[str]:
        """All of them."""
        return list(dict.fromkeys(self.learned + self.held_out))


def open_source(config: SourceConfig, pictures: Pictures) -> Source | None:
    """What guides a run; None where nothing does.

    Raises:
        FileNotFoundError: no such folder or table.
        ValueError: something is missing for a picture, or does not fit it; one sentence that names it.
    """
    if pictures.data.neighbors and config.kind not in ("none", "edges", "low-resolution"):
        raise ValueError(
            f"data.neighbors is {pictures.data.neighbors}: such views show several pictures, for which there is no "
            f"{config.kind}; set it to 0"
        )
    return SOURCES[config.kind](config, pictures)


def source_of_split(
    config: SourceConfig, data: DataConfig, learned: list[Path], held_out: list[Path], vqgan: str = ""
) -> Source | None:
    """`open_source` for the two sides of a folder of pictures; `vqgan` is the file that encodes these."""
    names = ([path_below(path, data).as_posix() for path in side] for side in (learned, held_out))
    return open_source(config, Pictures(data, *names, vqgan))


def _nothing(config: SourceConfig, pictures: Pictures) -> None:
    return None


def _edges(config: SourceConfig, pictures: Pictures) -> Source:
    return Source(edges_of_view)


def edges_of_view(view: View) -> Tensor:
    """[1, H, W] in -1..1."""
    return view.edges


def _low_resolution(config: SourceConfig, pictures: Pictures) -> Source:
    return Source(partial(small_picture, config.factor))


def small_picture(factor: int, view: View) -> Tensor:
    """[3, H, W] in -1..1."""
    return low_resolution(view.color[None], factor)[0]


def _class(config: SourceConfig, pictures: Pictures) -> Source:
    labels, names = read_classes(config.table, pictures.names)
    made_from = fingerprint(*(f"{name} {labels[name]}" for name in pictures.names))
    return Source(partial(class_token, labels), rows=len(names), labels=len(names), made_from=made_from, names=names)


def class_token(labels: dict[str, int], view: View) -> Tensor:
    """[1]"""
    return torch.tensor([labels[view.name]])


def _coordinates(config: SourceConfig, pictures: Pictures) -> Source:
    steps, stride = config.labels or STEPS, inspect_model(pictures.vqgan).configs["vqgan"].stride
    return Source(
        partial(coordinates_of_view, steps, stride), rows=steps, labels=steps, crops=True, made_from=f"{steps} steps"
    )


def coordinates_of_view(steps: int, stride: int, view: View) -> Tensor:
    """Of every cell, on the whole picture as large as the view shows it: [n]."""
    placement = view.placement
    assert placement is not None
    cells = placement.side // stride
    return coordinate_tokens(placement.canvas, placement.corner, (cells, cells), stride, steps).flatten()


def _depth(config: SourceConfig, pictures: Pictures) -> Source:
    maps = find_maps(config, pictures.data.folder, pictures.names)
    return Source(partial(depth_of_view, maps), made_from=maps.fingerprint())


def depth_of_view(maps: PairedMaps, view: View) -> Tensor:
    """Stretched over the view, as sampling will stretch it: [1, H, W] in -1..1."""
    return depth(maps.gray(view.name, view.placement)[None])[0]


def _segmentation(config: SourceConfig, pictures: Pictures) -> Source:
    maps = find_maps(config, pictures.data.folder, pictures.names)
    labels = len(config.palette) or config.labels
    return Source(partial(segments_of_view, maps, labels), labels=labels, made_from=maps.fingerprint())


def segments_of_view(maps: PairedMaps, labels: int, view: View) -> Tensor:
    """One channel a label, 0 or 1: [labels, H, W]."""
    return segmentation(maps.labels(view.name, view.placement)[None], labels)[0]


def _layout(config: SourceConfig, pictures: Pictures) -> Source:
    scenes, names = read_scenes(config.table, Path(pictures.data.folder), pictures.names)
    rows = max(CORNERS, len(names) + 1)
    made_from = fingerprint(rows, *(f"{name} {scenes[name]}" for name in pictures.names))
    return Source(partial(layout_of_view, scenes, rows), rows=rows, labels=len(names), made_from=made_from, names=names)


def layout_of_view(scenes: dict[str, Scene], rows: int, view: View) -> Tensor:
    """The boxes and the part of the picture that the view shows: [92]."""
    assert view.placement is not None
    boxes, crop = scene_in_view(scenes[view.name], view.placement)
    return layout_tokens(boxes, rows, crop)[0]


def _words(config: SourceConfig, pictures: Pictures) -> Source:
    captions = read_table(config.table, "caption", pictures.names)
    vocabulary = learn_words(captions[name] for name in pictures.learned)
    numbers = {name: vocabulary.read(caption, len(vocabulary.words)).words for name, caption in captions.items()}
    made_from = fingerprint(*vocabulary.words, *(f"{name} {numbers[name]}" for name in pictures.names))
    of, rows = partial(some_words, vocabulary, numbers), len(vocabulary.words) + 1
    return Source(of, rows=rows, made_from=made_from, vocabulary=vocabulary)


def some_words(vocabulary: Vocabulary, numbers: dict[str, tuple[int, ...]], view: View) -> Tensor:
    """Words of the caption, in training only some of them, so that one alone is understood, too: [8]."""
    words = numbers[view.name]
    if view.random is not None and words:
        few = view.random.integers(1, len(words) + 1)
        words = tuple(view.random.permutation(words)[:few].tolist())
    return word_tokens(words, vocabulary)


SOURCES: dict[str, Callable[[SourceConfig, Pictures], Source | None]] = {
    "none": _nothing,
    "edges": _edges,
    "low-resolution": _low_resolution,
    "class": _class,
    "coordinates": _coordinates,
    "depth": _depth,
    "segmentation": _segmentation,
    "layout": _layout,
    "words": _words,
}
