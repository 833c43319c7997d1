"""What a run has to do, by the kind of its prior: windows that slide over the canvas (`schedule`), one window that is
the whole canvas, or cells in any order.

A prior of any order reads known cells first, so that each new one sees both sides of a hole. A canvas of one window is
one segment: what is given, row by row, then all else in a scattered order that is the same for every run. On a larger
canvas windows half beside each other follow one another, each with what the ones before have drawn as known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..conditions.base import Condition
from ..geometry import Window, Wrap
from ..priors.base import Prior
from .schedule import CheckCancelled, Segment, schedule
from .state import SamplingState
from .windows import Sliding, Visit


@dataclass(frozen=True)
class OrderedSegment(Segment):
    """A segment whose window is read in an order of its own."""

    numbers: tuple[int, ...] = ()  # of the cells to draw, row by row in the window

    @cached_property
    def places(self) -> tuple[int, ...]:
        """Where in the order the cells to draw are."""
        at = {number: place for place, number in enumerate(self.order)}
        return tuple(at[number] for number in self.numbers)


def any_order_segments(state: SamplingState, side: int, wrap: Wrap) -> list[OrderedSegment]:
    """What is left to do of a run by a prior whose window has `side` cells a side, one segment after the other."""
    free = ((~state.known) | (state.draws > 0)).any(0).cpu().numpy()  # [h, w]; all others are given
    left = state.pending(1).any(0).cpu().numpy()
    height, width = free.shape
    rank = np.random.PCG64(0).random_raw(height * width).reshape(height, width)
    drawn, segments = ~free, []
    for window in _windows(height, width, side, wrap):
        rows, columns = np.array(window.rows(height)), np.array(window.columns(width))
        inside = np.add.outer(np.arange(side) < height, np.zeros(side, bool)) & (np.arange(side) < width)
        grid = np.ix_(rows, columns)
        known, own = inside & drawn[grid], inside & ~drawn[grid]
        own_cells = np.flatnonzero(own)
        own_cells = own_cells[np.argsort(rank[grid].ravel()[own_cells], kind="stable")]
        order = np.concatenate([np.flatnonzero(known), own_cells, np.flatnonzero(~inside)])
        to_draw = own_cells[left[grid].ravel()[own_cells]]
        places = zip(rows[to_draw // side].tolist(), columns[to_draw % side].tolist(), strict=True)
        visits = tuple(Visit(row, column, 1, window) for row, column in places)
        drawn[grid] |= own
        if visits:
            segments.append(OrderedSegment(visits, numbers=tuple(to_draw.tolist()), order=tuple(order.tolist())))
    return segments


def rounds_of_run(
    prior: Prior, condition: Condition, state: SamplingState, sliding: Sliding, check_cancelled: CheckCancelled = bool
) -> list[list[Segment]]:
    """What is left to do of a run by a prior of any kind, in rounds."""
    if prior.any_order:
        return [[segment] for segment in any_order_segments(state, prior.window, state.wrap)]
    if prior.order is not None:
        return [[segment] for segment in fixed_order_segments(state, prior.order)]
    if prior.whole_canvas:
        return [[segment] for segment in whole_canvas_segments(state)]
    return schedule(prior, condition, state, sliding, check_cancelled)


def fixed_order_segments(state: SamplingState, order: tuple[int, ...]) -> list[OrderedSegment]:
    """What is left to do of a canvas of one window, by a prior that has one order: cells in that order."""
    left, width = set(state.pending(1).any(0).flatten().cpu().nonzero().flatten().tolist()), state.indices.shape[2]
    numbers, window = tuple(cell for cell in order if cell in left), Window(0, 0, *state.given.size)
    visits = tuple(Visit(*divmod(number, width), 1, window) for number in numbers)
    return [OrderedSegment(visits, numbers=numbers, order=order)] if visits else []


def whole_canvas_segments(state: SamplingState) -> list[Segment]:
    """What is left to do of a run whose window is the canvas, of any shape: its cells, row by row."""
    left = state.pending(1).any(0).cpu().nonzero().tolist()
    window = Window(0, 0, *state.given.size)
    return [Segment(tuple(Visit(row, column, 1, window) for row, column in left))] if left else []


def _windows(height: int, width: int, side: int, wrap: Wrap) -> Iterator[Window]:
    """Windows that cover the canvas, half beside each other."""
    for top in _starts(height, side, wrap in ("y", "both")):
        for left in _starts(width, side, wrap in ("x", "both")):
            yield Window(top, left, side, side, wrap)


def _starts(size: int, side: int, wraps: bool) -> list[int]:
    """First rows (or columns) of the windows; one that wraps comes last, and closes the seam."""
    if size <= side:
        return [0]
    step = max(1, side // 2)
    last = size - step if wraps else size - side
    return sorted({*range(0, size - side, step), size - side, last})
