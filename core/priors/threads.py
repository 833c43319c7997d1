"""How many of a processor's threads decode: a token of a small model is many tiny operations, each of which waits for
all threads, so that on a busy machine a second one makes it several times slower; and large ones read memory faster
with all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from .base import Prior

SMALL = 2**24  # parameters; a model of fewer decodes with one thread


def is_small(prior: Prior) -> bool:
    """Whether a prior decodes with one thread, wherever its weights are."""
    return sum(parameter.numel() for parameter in prior.parameters()) < SMALL


@contextlib.contextmanager
def one_thread(wanted: bool) -> Iterator[None]:
    """One thread for what is inside, where that is wanted; as many as before, after it."""
    before = torch.get_num_threads()
    if not wanted or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
