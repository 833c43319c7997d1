"""In which order a transformer reads the cells of its window (arXiv appendix F).

The original's permuters as data: a list of the cells' numbers, row by row, in the order in which they are predicted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal

import numpy as np

Order = Literal["row", "column", "z-curve", "spiral-in", "spiral-out", "alternate", "subsample", "random"]


def _row(side: int) -> np.ndarray:
    return np.arange(side * side)


def _column(side: int) -> np.ndarray:
    return np.arange(side * side).reshape(side, side).T.ravel()


def _z_curve(side: int) -> np.ndarray:
    """By the bits of row and column in turn."""
    number, bits = np.arange(side * side), range(side.bit_length())
    row, column = number // side, number % side
    morton = sum((column >> bit & 1) << 2 * bit | (row >> bit & 1) << 2 * bit + 1 for bit in bits)
    return np.argsort(morton)


def _spiral_out(side: int) -> np.ndarray:
    """From the middle up, right, down, left, by arms that grow by one at every other turn."""
    row, column, cells = side // 2, (side - 1) // 2, []
    arms = [length for length in range(1, side + 1) for _ in range(2)]
    for number, length in enumerate(arms):
        down, right = ((-1, 0), (0, 1), (1, 0), (0, -1))[number % 4]
        for _ in range(length):
            cells.append(row * side + column)
            row, column = row + down, column + right
    return np.array(cells[: side * side])


def _spiral_in(side: int) -> np.ndarray:
    return _spiral_out(side)[::-1]


def _alternate(side: int) -> np.ndarray:
    """Every second row from right to left."""
    cells = np.arange(side * side).reshape(side, side)
    cells[1::2] = cells[1::2, ::-1]
    return cells.ravel()


def _subsample(side: int) -> np.ndarray:
    """Every second cell of every second row first, and so each of the four coarser grids."""
    cells = np.arange(side * side).reshape(1, side, side)
    while side > 1 and side % 2 == 0:
        side //= 2
        cells = cells.reshape(-1, side, 2, side, 2).transpose(0, 2, 4, 1, 3).reshape(-1, side, side)
    return cells.ravel()


def _random(side: int) -> np.ndarray:
    return np.random.RandomState(1).permutation(side * side)  # the numbers of the released models


ORDERS: dict[Order, Callable[[int], np.ndarray]] = {
    "row": _row,
    "column": _column,
    "z-curve": _z_curve,
    "spiral-in": _spiral_in,
    "spiral-out": _spiral_out,
    "alternate": _alternate,
    "subsample": _subsample,
    "random": _random,
}


def check_order(order: str, side: int) -> None:
    """Raise ValueError for an order that is unknown, or that windows of `side` cells a side don't have."""
    if order not in ORDERS:
        raise ValueError(f"order {order!r} is unknown; choose one of {', '.join(ORDERS)}")
    if order.startswith("spiral") and side % 2:
        raise ValueError(f"a spiral starts in the middle of an even number of cells a side, not of {side}")


@cache
def cells_in_order(order: Order, side: int) -> tuple[int, ...]:
    """The numbers of the cells of a window, row by row, in the order in which they are predicted."""
    return tuple(ORDERS[order](side).tolist())


def order_of_cells(cells: list[int], side: int) -> Order | None:
    """Which order that is; None if none."""
    return next((name for name in ORDERS if cells == list(cells_in_order(name, side))), None)
