"""Where the attention window stands for each cell of a canvas (section 3.2, figure 3). Arithmetic only.

The window stays as near to the middle over its cell as the canvas's borders let it. Three cases besides:

- Strided: along a row it moves every few cells only, so that what was read of it serves several cells.
- Wrapped: the canvas goes on beyond a border with its other end. The first time over, nothing is known beyond
  the first rows and columns yet, so there the window stays inside; the cells that it was held back from are
  visited a second time, when all around them is known.
- A canvas smaller than the window is the upper left corner of one as large as the window. Rows below it never
  matter, since no cell looks at later ones. Columns to its right are filled like the others and then cut off, so
  that the prior always sees complete windows, as it did in training; conditions repeat their border there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ..geometry import Window, Wrap


@dataclass(frozen=True, kw_only=True)
class Sliding:
    """How the window goes over a canvas larger than itself. ValueError for values that can't be.

    stride: cells that the window moves at a time along a row. 1 is the paper's rule; 2, 4 and 8 are faster and
        leave the cells away from the middle less to see on one side.
    rows: rows that may advance side by side, for speed; 0 chooses. The result does not depend on it.
    """

    stride: int = 1
    rows: int = 0

    def __post_init__(self):
        if self.stride not in (1, 2, 4, 8):
            raise ValueError(f"stride is {self.stride}; choose 1 (exact), 2, 4 or 8 cells")
        if not isinstance(self.rows, int) or self.rows < 0:
            raise ValueError(f"rows is {self.rows}; choose a whole number from 1, or 0 for automatic")


EXACT = Sliding()


class Visit(NamedTuple):
    """One draw of a cell."""

    row: int
    column: int
    pass_number: int  # 1 the first time that this cell is drawn
    window: Window


def free_start(cell: int, side: int, stride: int = 1) -> int:
    """First row (or column) of the window that predicts row (or column) `cell` where no border is near."""
    return (cell - side // 2 + stride // 2) // stride * stride


def window_start(cell: int, size: int, side: int, stride: int = 1) -> int:
    """First row (or column) of the window that predicts row (or column) `cell`: as near to the middle
    as the canvas border lets it be.

    Args:
        cell: 0..size-1.
        size: of the canvas in this direction, cells.
        side: of the window, cells; a canvas smaller than it has its window at 0.
        stride: cells that the window moves at a time.
    """
    return min(max(free_start(cell, side, stride), 0), max(size - side, 0))


def window_around(
    row: int,
    column: int,
    height: int,
    width: int,
    side: int,
    sliding: Sliding = EXACT,
    wrap: Wrap = "none",
    again: bool = False,
) -> Window:
    """The window that predicts cell (row, column) of a canvas of height x width cells.

    Args:
        wrap: borders at which the canvas goes on with its other end.
        again: at a second visit, when all cells are known; matters where the canvas wraps.
    """
    top, left = window_start(row, height, side), window_start(column, width, side, sliding.stride)
    if wrap in ("y", "both"):
        top = free_start(row, side) if again else max(free_start(row, side), 0)
    if wrap in ("x", "both"):
        left = free_start(column, side, sliding.stride)
        left = left if again else max(left, 0)
    return Window(top, left, side, side, wrap)


def visits(height: int, width: int, side: int, sliding: Sliding = EXACT, wrap: Wrap = "none") -> Iterator[Visit]:
    """All draws of a canvas in the order that defines the result: all cells row by row; where the canvas wraps,
    then the first rows and then the first columns again."""
    again_rows = count_clamped(height, side, 1) if wrap in ("y", "both") else 0
    again_columns = count_clamped(width, side, sliding.stride) if wrap in ("x", "both") else 0
    for row in range(height):
        for column in range(width):
            yield Visit(row, column, 1, window_around(row, column, height, width, side, sliding, wrap))
    for row in range(again_rows):
        for column in range(width):
            yield Visit(row, column, 2, window_around(row, column, height, width, side, sliding, wrap, True))
    for row in range(height):
        for column in range(again_columns):
            pass_number = 3 if row < again_rows else 2
            yield Visit(row, column, pass_number, window_around(row, column, height, width, side, sliding, wrap, True))


def count_clamped(size: int, side: int, stride: int) -> int:
    """How many cells at the beginning have their window held back by the border."""
    return min(size, sum(free_start(cell, side, stride) < 0 for cell in range(side)))
