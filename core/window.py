"""Where the attention window stands for each cell of a canvas (section 3.2.3, figure 5). Arithmetic only."""

from typing import NamedTuple


class Window(NamedTuple):
    """A rectangle of cells on a canvas."""

    top: int
    left: int
    height: int
    width: int


def window_start(cell: int, size: int, side: int) -> int:
    """First row (or column) of the window that predicts row (or column) `cell`: as near to the middle
    as the canvas border lets it be.

    Args:
        cell: 0..size-1.
        size: of the canvas in this direction, cells.
        side: of the window, cells; a canvas smaller than it has its window at 0.
    """
    return min(max(cell - side // 2, 0), max(size - side, 0))


def window_around(row: int, column: int, height: int, width: int, side: int) -> Window:
    """The window that predicts cell (row, column) of a canvas of height x width cells."""
    top, left = window_start(row, height, side), window_start(column, width, side)
    return Window(top, left, min(side, height), min(side, width))
