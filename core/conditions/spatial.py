"""Conditions that belong to places: an image's codes, coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import Window
from .base import Condition


@dataclass(frozen=True)
class SpatialCondition:
    """A condition image as codes r of its own VQGAN: the codes under the window, row by row.

    indices: [B or 1, h_c, w_c] int64, covering the same image as the canvas, at its own stride.
    canvas_size: (h, w) of the canvas in cells.
    offset: first vocabulary row of condition codes; 0 where they share rows with image codes.
    unconditional: what the prior is given when nothing is to guide it; None if it has not learned that.
    """

    indices: Tensor
    canvas_size: tuple[int, int]
    offset: int = 0
    unconditional: Condition | None = None

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
        top, left, tall, wide = (v * own_height // height for v in window[:4])
        scaled = Window(top, left, tall, wide, window.wrap)
        rows, columns = scaled.rows(own_height), scaled.columns(own_width)
        return self.indices[:, rows][:, :, columns].flatten(1) + self.offset


@dataclass(frozen=True)
class CoordinatesCondition:
    """Where on the canvas the window stands, for images that differ from place to place (section 3.2).

    A pixel's coordinate is its number, row by row, as a share of all pixels; a cell has the mean of its
    pixels', in `steps` steps.
    """

    canvas_size: tuple[int, int]
    steps: int
    stride: int
    offset: int = 0
    unconditional = None

    def prefix(self, window: Window) -> Tensor:
        """The coordinates of the window's cells."""
        rows, columns = window.rows(self.canvas_size[0]), window.columns(self.canvas_size[1])
        return self.tokens[rows][:, columns].reshape(1, -1) + self.offset

    @cached_property
    def tokens(self) -> Tensor:
        """Of all cells, [h, w] int64 in 0..steps-1."""
        canvas = (self.canvas_size[0] * self.stride, self.canvas_size[1] * self.stride)
        return coordinate_tokens(canvas, (0, 0), self.canvas_size, self.stride, self.steps)


def coordinate_tokens(
    canvas: tuple[int, int], corner: tuple[int, int], cells: tuple[int, int], stride: int, steps: int
) -> Tensor:
    """Coordinates of a part of a canvas, [h, w] int64 in 0..steps-1 (the original reaches `steps` on images 15000
    pixels high).

    Many means lie right between two steps. Which of them they go to, float32 decides, so it is counted in float32 and
    averaged pixel by pixel, as in the original.

    Args:
        canvas: its height and width in pixels.
        corner: the part's first row and column on it, in pixels.
        cells: h and w of the part.
    """
    (height, width), (top, left), (rows, columns) = canvas, corner, cells
    across, means = torch.arange(left, left + columns * stride, dtype=torch.float64), []
    for row in range(rows):  # of cells: all pixels at once would be much more than the canvas
        down = torch.arange(top + row * stride, top + (row + 1) * stride, dtype=torch.float64)
        shares = ((down[:, None] * width + across) / (height * width)).float().view(1, 1, stride, -1)
        means.append(F.interpolate(shares, (1, columns), mode="area").view(1, -1))
    return (torch.cat(means) * steps).round().long().clamp(max=steps - 1)
