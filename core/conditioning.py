"""Conditions: what guides a picture, as prefix tokens for any window of the canvas (section 3.2.2).

Each condition answers one question, `prefix(window) -> [B or 1, P] int64`; a batch of one serves any
number of pictures and is computed once for all of them. A window may reach over the canvas's border; there the
condition goes on as `Window.rows` and `Window.columns` say.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .window import Window


class Condition(Protocol):
    """Anything that gives prefix tokens."""

    def prefix(self, window: Window) -> Tensor:
        """Tokens [B or 1, P] int64 that stand before the window's cells."""


@dataclass(frozen=True)
class ImageCondition:
    """A condition picture as codes r of its own VQGAN: the codes under the window, row by row.

    indices: [B or 1, h_c, w_c] int64, covering the same picture as the canvas, at its own stride.
    canvas_size: (h, w) of the canvas in cells.
    offset: first vocabulary row of condition codes; 0 where they share rows with image codes.
    contrast: what the prior is given when nothing is to guide it, for guidance; None if it has not learned that.
    """

    indices: Tensor
    canvas_size: tuple[int, int]
    offset: int = 0
    contrast: Condition | None = None

    def __post_init__(self):
        (rows, columns), (height, width) = self.indices.shape[1:], self.canvas_size
        if rows * width != columns * height:
            raise ValueError(
                f"the condition has {rows}x{columns} cells and the canvas {height}x{width}; "
                "their sides must be in the same proportion"
            )

    def prefix(self, window: Window) -> Tensor:
        """The condition's cells under the window."""
        (own_height, own_width), height = self.indices.shape[1:], self.canvas_size[0]
        scaled = Window(*(v * own_height // height for v in window[:4]), window.wrap)
        rows, columns = scaled.rows(own_height), scaled.columns(own_width)
        return self.indices[:, rows][:, :, columns].flatten(1) + self.offset


@dataclass(frozen=True)
class ClassCondition:
    """One class label a picture: labels [B or 1] int64, in 0..classes-1."""

    labels: Tensor
    classes: int
    offset: int = 0

    def __post_init__(self):
        outside = self.labels[(self.labels < 0) | (self.labels >= self.classes)]
        if len(outside):
            raise ValueError(f"class label {int(outside[0])} does not exist; choose 0 to {self.classes - 1}")

    def prefix(self, window: Window) -> Tensor:
        """The label, whatever the window."""
        return self.labels[:, None] + self.offset


@dataclass(frozen=True)
class CoordinatesCondition:
    """Where on the canvas the window stands, for pictures that differ from place to place (3.2.3).

    A pixel's coordinate is its number, row by row, as a share of all pixels; a cell has the mean of its
    pixels', in `steps` steps.
    """

    canvas_size: tuple[int, int]
    steps: int
    stride: int
    offset: int = 0

    def prefix(self, window: Window) -> Tensor:
        """The coordinates of the window's cells."""
        rows, columns = window.rows(self.canvas_size[0]), window.columns(self.canvas_size[1])
        return self.tokens[rows][:, columns].reshape(1, -1) + self.offset

    @cached_property
    def tokens(self) -> Tensor:
        """Of all cells, [h, w] int64 in 0..steps-1 (the original reaches `steps` on pictures 15000 pixels high).

        Many means lie right between two steps. Which of them they go to, float32 decides, so it is counted in
        float32 and averaged pixel by pixel, as in the original.
        """
        (rows, columns), pixels = self.canvas_size, self.canvas_size[1] * self.stride * self.stride
        means = []
        for row in range(rows):  # of cells: all pixels at once would be much more than the canvas
            numbers = torch.arange(row * pixels, (row + 1) * pixels, dtype=torch.float64)
            shares = (numbers / (rows * pixels)).float().view(1, 1, self.stride, -1)
            means.append(F.interpolate(shares, (1, columns), mode="area").view(1, -1))
        return (torch.cat(means) * self.steps).round().long().clamp(max=self.steps - 1)


@dataclass(frozen=True)
class TokenCondition:
    """Prefix tokens as they are, [B or 1, P] int64, whatever the window: scene layouts, an empty picture."""

    tokens: Tensor

    def prefix(self, window: Window) -> Tensor:
        """The tokens."""
        return self.tokens


@dataclass(frozen=True)
class NoCondition:
    """Nothing guides the picture: a single start token."""

    token: int = 0

    def prefix(self, window: Window) -> Tensor:
        """The start token, whatever the window."""
        return torch.tensor([[self.token]])


def repeat(condition: Condition, times: int) -> Condition:
    """A condition of a batch, for `times` pictures each: all once, then all again. A batch of one serves any
    number already."""
    batched = {n: t for n, t in vars(condition).items() if isinstance(t, Tensor) and len(t) > 1}
    repeated = {n: t.repeat(times, *[1] * (t.ndim - 1)) for n, t in batched.items()}
    return dataclasses.replace(condition, **repeated)
