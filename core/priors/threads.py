"""How many of a CPU's threads decode. A token of a small model is many tiny operations, each of which waits for
all threads, so that beside other programs a second thread makes it several times slower; and large models read memory
faster with all."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import torch

from .base import Prior

SMALL = 2**25  # parameters; a model of fewer gives up threads
SHARE = 0.8  # of the clock's time that a thread computes unless others push it aside
FORGET = 0.7  # what a pass counts after the next one
AGAIN = 32  # passes with one thread until all are tried again; twice as many each time that others push them aside


def is_small(prior: Prior) -> bool:
    """Whether a prior gives up threads, wherever its weights are."""
    return sum(parameter.numel() for parameter in prior.parameters()) < SMALL


class Threads:
    """All threads while nobody else wants the CPU, one while others do: as a thread's share of the clock's time
    shows. The first pass has one. `adapts` False leaves all as it is."""

    def __init__(self, adapts: bool):
        self.most = torch.get_num_threads()
        self.adapts = adapts and self.most > 1
        self.wait, self.again = 1, AGAIN  # passes with one thread to come; and when all are pushed aside next
        self.clock = self.computed = 0.0  # seconds, lately

    @property
    def number(self) -> int:
        """Of the next pass."""
        return 1 if self.adapts and self.wait else self.most

    @contextlib.contextmanager
    def decode(self) -> Iterator[None]:
        """A pass is made inside, with as many threads as pay; as many as before, after it."""
        if not self.adapts:
            yield
            return
        before, clock, computed = torch.get_num_threads(), time.perf_counter(), time.thread_time()
        torch.set_num_threads(self.number)
        try:
            yield
        finally:
            torch.set_num_threads(before)
        self.note(time.perf_counter() - clock, time.thread_time() - computed)

    def note(self, clock: float, computed: float) -> None:
        """A pass took this many seconds, for some of which this thread computed."""
        self.clock, self.computed = FORGET * self.clock + clock, FORGET * self.computed + computed
        alone = self.computed >= SHARE * self.clock
        if self.wait:
            self.wait -= alone
        elif not alone:
            self.wait, self.again = self.again, 2 * self.again
            self.clock = self.computed = 0.0
