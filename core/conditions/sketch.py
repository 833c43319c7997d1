"""Control by a sketch: lines and coarse colors, either of which may be left out anywhere.

lines, presence of lines [B, 2, 16h, 16w] --convolutions--+
                                                          +--> one vector a cell --> one for each control layer
colors, presence of colors [B, 4, h/2, w/2] --convolutions-+
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..geometry import Window
from ..prefix import Prefix
from .vocabulary import Vocabulary

FOLD = 4  # pixels a side that become channels before the first convolution
WORDS = 8  # that an image can be asked for
CELL = 16  # pixels of the lines a side, for each cell
MIN_COLORED = 0.3  # share of a spot that must be painted for its color to count
MAX_EMPHASIS = 10.0


@dataclass(frozen=True, kw_only=True)
class SketchConfig:
    """width: of the prior. layers: how many of its blocks are controlled. ValueError for impossible values."""

    width: int = 384
    layers: int = 3

    def __post_init__(self):
        for name in ("width", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")


class SketchEncoder(nn.Module):
    """Lines and colors to control vectors."""

    def __init__(self, config: SketchConfig):
        super().__init__()
        self.config = config
        self.edges = nn.Sequential(
            nn.Conv2d(2 * FOLD**2, 48, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(48, 96, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(96, 192, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(192, 192, 3, padding=1),
            nn.SiLU(),
        )
        self.colors = nn.Sequential(
            nn.Conv2d(4, 96, 3, padding=1), nn.SiLU(), nn.Conv2d(96, 96, 3, padding=1), nn.SiLU()
        )
        self.out = nn.Conv2d(192 + 96, config.width, 1)
        self.control_layers = nn.ModuleList(
            nn.Linear(config.width, config.width, bias=False) for _ in range(config.layers)
        )

    def forward(self, edges: Tensor, colors: Tensor) -> Tensor:
        """Lines and colors to control.

        Args:
            edges: [B, 2, 16h, 16w]: lines 0..1, and where they are given, 0 or 1.
            colors: [B, 4, ceil(h/2), ceil(w/2)]: mean colors in -1..1, 0 where not given, and where they are given.
        Returns:
            [B, h, w, N, C].
        """
        lines = self.edges(F.pixel_unshuffle(edges, FOLD))  # [B, 192, h, w]
        height, width = lines.shape[2:]
        spots = F.interpolate(self.colors(colors), scale_factor=2.0, mode="nearest")[:, :, :height, :width]
        shared = self.out(torch.cat([lines, spots], 1)).movedim(1, -1)  # [B, h, w, C]
        return torch.stack([layer(shared) for layer in self.control_layers], 3)


@dataclass(frozen=True, kw_only=True)
class Emphasis:
    """How far guidance goes by each part of a sketch: 1 as far as the settings say, 0 not at all, which leaves the part
    as it was learned, 2 twice as far; 0 to 10. Each value that differs from the others costs one more pass over the
    window, but for 0. ValueError for values out of range.
    """

    words: float = 1.0
    style: float = 1.0
    lines: float = 1.0
    colors: float = 1.0

    def __post_init__(self):
        for name, value in vars(self).items():
            if not 0 <= value <= MAX_EMPHASIS:
                raise ValueError(f"the emphasis of {name} is {value}; choose 0 to {MAX_EMPHASIS:g}, 1 is as the others")


@dataclass(frozen=True)
class Sketch:
    """What an image is asked to show, on the grid of its canvas; any part may be missing.

    words: numbers of words, for all images alike.
    style: a number, or None.
    lines: [B or 1, 1, 16h, 16w], 0..1, where there are lines.
    colors: [B or 1, 3, H, W] in -1..1, the image whose colors are wanted, of any size.
    colored: [B or 1, 1, H', W'] 0..1, where its colors count; None: everywhere.
    emphasis: what guidance makes of each part.
    """

    words: tuple[int, ...] = ()
    style: int | None = None
    lines: Tensor | None = None
    colors: Tensor | None = None
    colored: Tensor | None = None
    emphasis: Emphasis = field(default_factory=Emphasis)

    def steps(self) -> list[tuple[Sketch, float]]:
        """The sketch built up from nothing, the parts with the least emphasis first: what is asked for after each step,
        and the emphasis of what the step adds. The last is the whole of it."""
        given = {"words": self.words or None, "style": self.style, "lines": self.lines, "colors": self.colors}
        parts = sorted((name for name in given if given[name] is not None), key=vars(self.emphasis).__getitem__)
        steps, some = [], Sketch()
        for emphasis, names in groupby(parts, vars(self.emphasis).__getitem__):
            some = replace(some, colored=self.colored, **{name: given[name] for name in names})
            steps.append((some, emphasis))
        return steps


def sketch_tokens(sketch: Sketch, slots: int, first: int, styles: int, words: int) -> Tensor:
    """The prefix [1, 1 + slots]: the style, then the words by number, each part's last number where nothing is said.

    Args:
        slots: how many words there is room for.
        first: the vocabulary row of style 0; the words come after `styles` styles and their "none".
        styles, words: how many there are.
    Raises:
        ValueError: more words than slots, or a number that there is not.
    """
    if len(sketch.words) > slots:
        raise ValueError(f"{len(sketch.words)} words are asked for; give at most {slots}")
    if any(not 0 <= word < words for word in sketch.words) or sketch.style not in (None, *range(styles)):
        raise ValueError(f"the model knows styles 0 to {styles - 1} and words 0 to {words - 1}; give one of these")
    given = sorted(sketch.words) + [words] * (slots - len(sketch.words))
    style = styles if sketch.style is None else sketch.style
    return torch.tensor([[first + style, *(first + styles + 1 + word for word in given)]])


@dataclass(frozen=True)
class SketchCondition:
    """Style and words as prefix tokens, lines and colors as control.

    tokens: [1, P] int64.
    control: [B or 1, h, w, N, C], of all cells of the canvas.
    unconditional: the same canvas with nothing asked for; None of itself.
    lines, colors: what was encoded, as `SketchEncoder` takes it, to compare images with.
    partial: the same with some parts only, each with more of them than the one before.
    emphasis: how far guidance goes by what each of `partial` adds to the one before, and by what this adds to the last.
    """

    tokens: Tensor
    control: Tensor
    unconditional: SketchCondition | None = None
    lines: Tensor | None = None
    colors: Tensor | None = None
    partial: tuple[SketchCondition, ...] = ()
    emphasis: tuple[float, ...] = (1.0,)

    @property
    def canvas_size(self) -> tuple[int, int]:
        """(h, w) in cells."""
        return self.control.shape[1], self.control.shape[2]

    def prefix(self, window: Window) -> Prefix:
        """The tokens, and the control of the window's cells."""
        rows, columns = window.rows(self.canvas_size[0]), window.columns(self.canvas_size[1])
        control = self.control[:, rows][:, :, columns].flatten(1, 2)
        return Prefix(self.tokens.expand(len(control), -1), per_cell=control)


@torch.inference_mode()
def sketch_condition(
    encoder: SketchEncoder, vocabulary: Vocabulary, slots: int, first: int, sketch: Sketch, size: tuple[int, int]
) -> SketchCondition:
    """What guides the cells of a canvas by a sketch.

    Args:
        slots, first: as of `sketch_tokens`.
        size: height and width of the canvas in cells.
    Raises:
        ValueError: too many words, a number that the vocabulary has not, or lines of another size than the canvas.
    """
    styles, words = len(vocabulary.styles), len(vocabulary.words)
    if sketch.lines is not None and sketch.lines.shape[-2:] != (size[0] * CELL, size[1] * CELL):
        raise ValueError(
            f"the lines are {sketch.lines.shape[-1]}x{sketch.lines.shape[-2]} pixels, a canvas of {size[1]}x{size[0]} "
            f"cells needs {size[1] * CELL}x{size[0] * CELL}; scale or pad them first"
        )
    weight = encoder.out.weight

    def of(some: Sketch) -> SketchCondition:
        tokens = sketch_tokens(some, slots, first, styles, words)
        lines, colors = sketch_inputs(some, *size)
        control = encoder(lines.to(weight), colors.to(weight)).float().cpu()
        return SketchCondition(tokens, control, None, lines, colors)

    *partial, (_, last) = sketch.steps() or [(sketch, 1.0)]
    return replace(
        of(sketch),
        unconditional=of(Sketch()),
        partial=tuple(of(some) for some, _ in partial),
        emphasis=(*(emphasis for _, emphasis in partial), last),
    )


def sketch_inputs(sketch: Sketch, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Lines and colors as `SketchEncoder` takes them, as many of both, for a canvas of height x width cells."""
    blank = torch.zeros(1, 1, height * CELL, width * CELL)
    lines = torch.cat([blank, blank], 1)
    if sketch.lines is not None:
        lines = torch.cat([sketch.lines, torch.ones_like(sketch.lines)], 1)
    spots = (-(-height // 2), -(-width // 2))  # two cells a side
    colors = torch.zeros(1, 4, *spots)
    if sketch.colors is not None:
        means = F.adaptive_avg_pool2d(sketch.colors, spots)
        given = torch.ones_like(means[:, :1])
        if sketch.colored is not None:
            weights = F.interpolate(sketch.colored, sketch.colors.shape[-2:], mode="nearest")
            shares = F.adaptive_avg_pool2d(weights, spots)
            means = F.adaptive_avg_pool2d(sketch.colors * weights, spots) / shares.clamp(min=1e-6)
            given = (shares >= MIN_COLORED).float().expand(len(means), -1, -1, -1)
        colors = torch.cat([means * given, given], 1)
    images = max(len(lines), len(colors))
    return lines.expand(images, -1, -1, -1), colors.expand(images, -1, -1, -1)


def show_sketch(lines: Tensor, colors: Tensor) -> Tensor:
    """What `SketchEncoder` is given, as images [B, 3, 16h, 16w] in -1..1: lines in white over the spots of color, gray
    where no color is asked for.

    Args:
        lines, colors: from `sketch_inputs`.
    """
    size, (rgb, _) = lines.shape[-2:], colors.split([3, 1], 1)
    spots = F.interpolate(rgb, scale_factor=2 * CELL, mode="nearest")[..., : size[0], : size[1]]
    return torch.maximum(spots, lines[:, :1] * 2 - 1)
