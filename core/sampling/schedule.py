"""In which order cells are drawn: independent ones in parallel.

A cell depends on the cells before it in its window and on nothing else, and has its own random numbers. So a row may
start before the row above is finished, and the codes are still those of raster order. What a cell waits for is read
off the windows themselves. A canvas of 3 x 5 cells, a window of 2 x 2, at most 2 segments a round; each cell's round:

    1 1 2 3 4      a window serves the first two cells of a row (one segment), then one cell each
    2 2 3 4 5      the second row follows the first at once, through the same windows: they are kept in the cache
    5 5 6 7 8      the third could start in round 3, but rounds 3 and 4 are full
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ..conditions.base import Condition
from ..geometry import Window, Wrap
from ..priors.base import Prior
from .checks import first_prefix
from .state import SamplingState
from .windows import Sliding, Visit, visits

CheckCancelled = Callable[[], object]  # called now and then during long work; raises to end it
Item = TypeVar("Item")
CHECK_EVERY = 512  # visits or segments; some milliseconds
MAX_CACHE_BYTES = 2**30  # of windows kept for the row below


@dataclass(frozen=True)
class Segment:
    """Cells drawn one after the other through the same window.

    visits: the draws; all with the same window and pass number.
    resumes: continue from the cache that an earlier segment left for this window.
    kept: leave the cache for a later segment.
    order: the window's cells in the order in which a prior of any order reads them; empty is row by row.
    """

    visits: tuple[Visit, ...]
    resumes: bool = False
    kept: bool = False
    order: tuple[int, ...] = ()

    @property
    def window(self) -> Window:
        """The one window of all its visits."""
        return self.visits[0].window

    @property
    def pass_number(self) -> int:
        """Which draw of these cells it is; 1 is the first."""
        return self.visits[0].pass_number

    @cached_property
    def places(self) -> tuple[int, ...]:
        """The cells' numbers in the window, row by row."""
        return tuple((v.row - v.window.top) * v.window.width + v.column - v.window.left for v in self.visits)


def split_segments(draws: Iterable[Visit], height: int, width: int) -> list[Segment]:
    """Join successive visits that have the same window.

    A window larger than a wrapped canvas shows cells twice. One that is drawn again may be among those that were
    read before, so that the next has to read anew.
    """

    def key(visit: Visit) -> tuple:
        twice = visit.pass_number > 1 and (visit.window.height > height or visit.window.width > width)
        return visit.window, visit.pass_number, (visit.row, visit.column) if twice else None

    return [Segment(tuple(group)) for _, group in groupby(draws, key)]


def schedule_rounds(work: Iterable[Segment], height: int, width: int, max_parallel: int) -> list[list[Segment]]:
    """Group segments into rounds of at most `max_parallel` independent ones.

    A segment comes after those that draw what it sees, and after those that saw what it draws anew.
    """
    drawn = np.zeros((height, width), np.int64)  # the last round that draws a cell, counted from 1
    seen = np.zeros((height, width), np.int64)  # the last round that looks at it
    rounds: list[list[Segment]] = []
    for segment in work:
        window = segment.window
        grid = np.ix_(window.rows(height), window.columns(width))
        flat = grid[0].repeat(window.width, 1).ravel(), grid[1].repeat(window.height, 0).ravel()
        context = tuple(index[: segment.places[-1]] for index in flat)
        cells = tuple(np.array(index) for index in zip(*((v.row, v.column) for v in segment.visits), strict=True))
        earliest = max(drawn[context].max(initial=0), seen[cells].max(), drawn[cells].max())  # counted from 0
        while earliest < len(rounds) and len(rounds[earliest]) >= max_parallel:
            earliest += 1
        rounds.extend([] for _ in range(earliest + 1 - len(rounds)))
        rounds[earliest].append(segment)
        seen[context] = np.maximum(seen[context], earliest + 1)
        drawn[cells] = earliest + 1
    return rounds


def mark_cached(rounds: list[list[Segment]], max_windows: int) -> list[list[Segment]]:
    """Mark which windows stay in the cache, at most `max_windows` at a time, for a row below that has them too.

    Near the top and the bottom of a canvas the window stands still from row to row. Of two, the one that is
    needed sooner stays. Only first draws do so: what is drawn again has been read with its old codes.
    """
    next_uses: dict[Window, list[int]] = defaultdict(list)  # the rounds that use each window, from the next on
    for number, segment in ((n, s) for n, round_ in enumerate(rounds) for s in round_ if s.pass_number == 1):
        next_uses[segment.window].append(number)
    marked = [list(round_) for round_ in rounds]
    cached: dict[Window, tuple[int, int]] = {}  # round and place of the segment that used the window last
    for number, round_ in enumerate(marked):
        for place, segment in enumerate(round_):
            if segment.pass_number > 1:
                continue
            window = segment.window
            next_uses[window].pop(0)
            if window in cached:
                earlier, at = cached.pop(window)
                marked[earlier][at] = replace(marked[earlier][at], kept=True)
                round_[place] = replace(segment, resumes=True)
            if next_uses[window]:
                cached[window] = number, place
            if len(cached) > max_windows:
                cached.pop(max(cached, key=lambda window: next_uses[window][0]))
    return marked


def split_groups(round_: list[Segment]) -> list[list[Segment]]:
    """Split a round into batches: segments with the same places in their windows; one with a kept cache is alone."""
    groups: dict[tuple, list[Segment]] = {}
    for segment in round_:
        alone = segment.window if segment.kept or segment.resumes else None
        groups.setdefault((segment.places, segment.pass_number, alone), []).append(segment)
    return list(groups.values())


@dataclass(frozen=True)
class Group:
    """G segments side by side, S cells each at the same places of their windows, as the loop works through them.

    numbers [G, S] int64: the cells, numbered row by row over the canvas with its padding.
    guesses [G, S] int64: whose code each is guessed to have: the cell above, or when drawn anew, the cell itself.
    places_at [S] int64: `places` on the device.
    cells: how many are on the canvas.
    """

    segments: list[Segment]
    numbers: Tensor
    guesses: Tensor
    places_at: Tensor
    cells: int

    @property
    def places(self) -> tuple[int, ...]:
        """The cells' numbers in their windows."""
        return self.segments[0].places

    @property
    def pass_number(self) -> int:
        """Which draw of these cells it is."""
        return self.segments[0].pass_number


def make_groups(
    rounds: list[list[Segment]], width: int, padded_width: int, device: torch.device | None = None
) -> list[Group]:
    """All groups in order, their index tensors copied to the device at once."""
    groups = [group for round_ in rounds for group in split_groups(round_)]
    visits = [visit for group in groups for segment in group for visit in segment.visits]
    if not visits:
        return []
    table = np.array([visit[:3] for visit in visits])
    numbers = table[:, 0] * padded_width + table[:, 1]
    guesses = np.where((table[:, 2] == 1) & (table[:, 0] > 0), numbers - padded_width, numbers)
    on_canvas = table[:, 1] < width
    places = np.concatenate([segment.places for group in groups for segment in group])
    indices = torch.from_numpy(np.stack([numbers, guesses, places])).to(device)  # [3, visits]
    made, end = [], 0
    for group in groups:
        start, end = end, end + len(group) * len(group[0].visits)
        own = indices[:, start:end].view(3, len(group), -1)
        made.append(Group(group, own[0], own[1], own[2, 0], int(on_canvas[start:end].sum())))
    return made


def schedule(
    prior: Prior, condition: Condition, state: SamplingState, sliding: Sliding, check_cancelled: CheckCancelled = bool
) -> list[list[Segment]]:
    """What is left to do of a run, in rounds."""
    batch, height, width = state.indices.shape
    padded_width = width + right_padding(width, prior.window, state.wrap)
    pending = {number: state.pending(number).any(0).tolist() for number in (1, 2, 3)}  # number -> [h][w]
    last = max((row for row in range(height) if any(pending[1][row])), default=0)

    def is_left(visit: Visit) -> bool:
        if visit.column >= width:  # only rows below look at the padding
            return visit.row < last
        return pending[visit.pass_number][visit.row][visit.column]

    every = visits(height, padded_width, prior.window, sliding, state.wrap)
    left = (visit for visit in with_checks(every, check_cancelled) if is_left(visit))
    work = with_checks(split_segments(left, height, padded_width), check_cancelled)
    rounds = schedule_rounds(work, height, padded_width, sliding.rows or _rows_at_once(prior.device, sliding))
    return mark_cached(rounds, max_cached_windows(prior, condition, batch))


def with_checks(items: Iterable[Item], check_cancelled: CheckCancelled) -> Iterator[Item]:
    """The same items; every `CHECK_EVERY` of them `check_cancelled` is called."""
    for number, item in enumerate(items, 1):
        if number % CHECK_EVERY == 0:
            check_cancelled()
        yield item


def right_padding(width: int, side: int, wrap: Wrap) -> int:
    """Columns to fill to the right of a canvas narrower than the window; see `windows`."""
    return 0 if wrap in ("x", "both") else max(side - width, 0)


def max_cached_windows(prior: Prior, condition: Condition, batch: int) -> int:
    """How many windows to keep: as many as a row needs that follows the one above, within `MAX_CACHE_BYTES`."""
    sharing = batch // len(first_prefix(prior, condition))
    size = batch * prior.cache_bytes(prior.window**2, sharing)
    return min(prior.window // 2 + 1, MAX_CACHE_BYTES // size)


def _rows_at_once(device: torch.device, sliding: Sliding) -> int:
    """Rows that advance side by side. A CPU is busy with one window, and gains by decoding together only."""
    if device.type != "cpu":
        return 16
    return 2 if sliding.stride == 1 else 4
