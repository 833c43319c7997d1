"""In which order cells are drawn: what does not depend on one another, side by side.

A cell sees the cells before it in its window and nothing else, and has its own random number. So a row may
follow the row above as soon as its windows are filled there, and the codes are those of one cell after the
other. What there is to wait for is read off the windows themselves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from ..geometry import Window
from .windows import Visit


@dataclass(frozen=True)
class Segment:
    """Cells that one window serves one after the other.

    visits: the draws; all with the same window and number.
    resumes: the window was read up to the cell before an earlier stretch's last, and is still in memory.
    kept: it stays in memory for a later stretch.
    """

    visits: tuple[Visit, ...]
    resumes: bool = False
    kept: bool = False

    @property
    def window(self) -> Window:
        """The window."""
        return self.visits[0].window

    @property
    def is_first(self) -> bool:
        """Whether its cells are drawn for the first time."""
        return self.visits[0].pass_number == 1

    @property
    def places(self) -> tuple[int, ...]:
        """The cells' numbers in the window, row by row."""
        return tuple((v.row - v.window.top) * v.window.width + v.column - v.window.left for v in self.visits)


def split_segments(visits: Iterable[Visit], height: int, width: int) -> list[Segment]:
    """Join neighbors in the order of visits that have the same window.

    A window larger than a wrapped canvas shows cells twice. One that is drawn again may be among those that were
    read before, so that the next has to read anew.
    """

    def alike(visit: Visit) -> tuple:
        twice = visit.pass_number > 1 and (visit.window.height > height or visit.window.width > width)
        return visit.window, visit.pass_number, (visit.row, visit.column) if twice else None

    return [Segment(tuple(group)) for _, group in groupby(visits, alike)]


def schedule_rounds(work: list[Segment], height: int, width: int, max_parallel: int) -> list[list[Segment]]:
    """Spread stretches over rounds; those of one round don't depend on one another, and `max_parallel` share one.

    A stretch comes after those that draw what it sees, and after those that saw what it draws anew.
    """
    drawn = np.zeros((height, width), np.int64)  # the last round that draws a cell
    seen = np.zeros((height, width), np.int64)  # the last round that looks at it
    made: list[list[Segment]] = []
    for stretch in work:
        window = stretch.window
        under = np.ix_(window.rows(height), window.columns(width))
        before = under[0].repeat(window.width, 1).ravel(), under[1].repeat(window.height, 0).ravel()
        before = tuple(index[: stretch.places[-1]] for index in before)
        own = tuple(np.array(index) for index in zip(*((v.row, v.column) for v in stretch.visits), strict=True))
        earliest = max(drawn[before].max(initial=0), seen[own].max(), drawn[own].max())  # as a number from 0
        while earliest < len(made) and len(made[earliest]) >= max_parallel:
            earliest += 1
        made.extend([] for _ in range(earliest + 1 - len(made)))
        made[earliest].append(stretch)
        seen[before] = np.maximum(seen[before], earliest + 1)
        drawn[own] = earliest + 1
    return made


def mark_cached(made: list[list[Segment]], max_parallel: int) -> list[list[Segment]]:
    """Mark which windows stay in memory, at most `max_parallel` at a time, for a row below that has them too.

    Near the top and the bottom of a canvas the window stands still from row to row. Of two, the one that is
    needed sooner stays. Only first visits do so: what is drawn again has been read with its old codes.
    """
    uses: dict[Window, list[int]] = defaultdict(list)  # the rounds that use each window, from the next on
    for number, stretch in ((n, s) for n, group in enumerate(made) for s in group if s.is_first):
        uses[stretch.window].append(number)
    marked = [list(group) for group in made]
    held: dict[Window, tuple[int, int]] = {}  # windows in memory: which stretch used it last
    for number, group in enumerate(marked):
        for place, stretch in enumerate(group):
            if not stretch.is_first:
                continue
            window = stretch.window
            uses[window].pop(0)
            if window in held:
                earlier, at = held.pop(window)
                marked[earlier][at] = replace(marked[earlier][at], kept=True)
                group[place] = replace(stretch, resumes=True)
            if uses[window]:
                held[window] = number, place
            if len(held) > max_parallel:
                held.pop(max(held, key=lambda window: uses[window][0]))
    return marked


def batches(group: list[Segment]) -> list[list[Segment]]:
    """Split a round into what runs as one batch: the same places in their windows, none of them remembered."""
    alike: dict[tuple, list[Segment]] = {}
    for stretch in group:
        alone = stretch.window if stretch.kept or stretch.resumes else None
        alike.setdefault((stretch.places, alone), []).append(stretch)
    return list(alike.values())
