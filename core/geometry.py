"""The grid's geometry: windows, and what lies beyond an edge."""

import functools
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Wrap = Literal["none", "x", "y", "both"]


class Window(NamedTuple):
    """A rectangle of cells; it may reach over the canvas's borders."""

    top: int
    left: int
    height: int
    width: int
    wrap: Wrap = "none"  # which borders go on with the other end; beyond the others the border cells repeat

    def rows(self, height: int) -> list[int]:
        """The rows of a canvas of `height` that it shows, from the top."""
        return cells_along(self.top, self.height, height, self.wrap in ("y", "both"))

    def columns(self, width: int) -> list[int]:
        """The columns of a canvas of `width` that it shows, from the left."""
        return cells_along(self.left, self.width, width, self.wrap in ("x", "both"))

    def row_index(self, height: int, device: torch.device) -> Tensor:
        """`rows` on a device; the same tensor each time, so that it is copied there once."""
        return _index_along(self.top, self.height, height, self.wrap in ("y", "both"), device)

    def column_index(self, width: int, device: torch.device) -> Tensor:
        """`columns` on a device; the same tensor each time."""
        return _index_along(self.left, self.width, width, self.wrap in ("x", "both"), device)


def cells_along(start: int, length: int, size: int, wraps: bool) -> list[int]:
    """Cells start..start+length-1 of a row or column of `size` cells, those beyond it by wrapping or repeating."""
    if wraps:
        return [cell % size for cell in range(start, start + length)]
    return [min(max(cell, 0), size - 1) for cell in range(start, start + length)]


@functools.lru_cache(maxsize=4096)
def _index_along(start: int, length: int, size: int, wraps: bool, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # also usable where gradients are wanted
        return torch.tensor(cells_along(start, length, size, wraps), device=device)
