"""How many cells to evaluate at a time: what pays best, by what was decided lately and by what passes cost.

Of m cells a pass decides about m^p, with p between 0 (only the first, which is certain) and 1 (all): measured, 0.5 for
drawings, whatever m, since guesses improve from pass to pass while they wait. A pass costs about a + b m. Both are
learned as the run goes on; the codes never depend on m.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from statistics import median

CHOICES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
FORGET = 0.97  # what a pass counts after the next one
TIMED = 32  # passes whose seconds count
ROW_COST, HINT = 0.08, 0.05  # of a second row, as a share of the first: expected, and how many passes that counts
EXPONENT, TRUST = 0.5, 16.0  # what is expected of p at first, and how many passes that counts
PATIENCE, MORE = 8, 3  # passes in a row without a right guess until it goes on with single cells; when tried again
AGAIN = 100  # passes over single cells until several are tried again; twice as many each time that nothing comes of it


class Lookahead:
    """The choice for passes of `rows` sequences side by side; `fixed` 0 chooses freely, else it is always that many."""

    def __init__(self, rows: int, fixed: int = 0):
        self.fixed = fixed
        self.slope = ROW_COST * rows / (1 + ROW_COST * (rows - 1))  # of the cost, before it is measured
        self._expect()
        self.timed: deque[tuple[int, float]] = deque(maxlen=TIMED)  # cells and seconds of the latest passes
        self.misses = self.alone = 0  # passes in a row without a right guess, and over a single cell
        self.again = AGAIN

    def choose(self, left: int, backlog: int = 0) -> int:
        """Cells of the next pass, at most as many as are left; it evaluates `backlog` other cells as well."""
        if self.fixed:
            return min(self.fixed, left)
        if self.alone >= self.again:
            self._expect()
            self.misses, self.again = min(self.misses, PATIENCE - MORE), 2 * self.again
        if self.misses >= PATIENCE:
            return 1
        start, each = self._line()
        weight, decided, logs = self.gain
        exponent = math.log(decided / weight) / (logs / weight)
        best = max(CHOICES, key=lambda m: m**exponent / (start + each * (backlog + m)))
        return min(best, max(2, CHOICES[-1] >> self.misses), left)  # the fewer the longer no guess comes true

    def note(self, cells: int, decided: int, seconds: float, backlog: int = 0) -> None:
        """Record a pass: cells it evaluated, cells it decided, its seconds."""
        self.alone = self.alone + 1 if cells == 1 else 0
        if cells > 1:
            self.misses, self.again = (self.misses + 1, self.again) if decided == 1 else (0, AGAIN)
            weight, total, logs = (FORGET * value for value in self.gain)
            self.gain = weight + 1, total + decided, logs + math.log(cells)
        self.timed.append((backlog + cells, seconds))

    def _expect(self) -> None:
        """Start from the prior expectation."""
        self.gain = TRUST, TRUST * 8**EXPONENT, TRUST * math.log(8)  # weight, cells decided, log m; lately

    def _line(self) -> tuple[float, float]:
        """Seconds of a pass as a + b m, neither below zero: least squares through the fastest of the latest passes of
        each size, since what else runs on the machine only ever slows one, and a line as steep as expected."""
        counts, fastest = Counter(m for m, _ in self.timed), dict(sorted(self.timed, reverse=True))
        level = median(seconds / (1 + self.slope * (m - 1)) for m, seconds in fastest.items()) if fastest else 1.0
        points = [(counts[m], m, seconds) for m, seconds in fastest.items()]
        points += [(HINT, m, level * (1 + self.slope * (m - 1))) for m in (1, CHOICES[-1] // 2)]
        weight = sum(count for count, _, _ in points)
        mean_m = sum(count * m for count, m, _ in points) / weight
        mean = sum(count * seconds for count, _, seconds in points) / weight
        spread = sum(count * (m - mean_m) ** 2 for count, m, _ in points)
        slope = max(sum(count * (m - mean_m) * (seconds - mean) for count, m, seconds in points) / spread, 0.0)
        return max(mean - slope * mean_m, 1e-9), slope
