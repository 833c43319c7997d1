"""Runs that were cancelled, kept so that the same run goes on from there and their canvas is not lost."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import torch

from ...core.canvas.canvas import Canvas
from ...core.sampling.loop import SamplingState
from ...core.sampling.trace import SamplingTrace

MAX_RUNS = 8  # runs kept


class Run(NamedTuple):
    """How far a run came."""

    state: SamplingState
    trace: SamplingTrace
    start: Canvas  # before it


kept: OrderedDict[str, Run] = OrderedDict()


def keep(key: str, state: SamplingState, trace: SamplingTrace, start: Canvas) -> None:
    """Remember a run that was cancelled; `key` is the fingerprint of all that it was asked for."""
    state.move_to(torch.device("cpu"))
    kept[key] = Run(state, trace, start)
    while len(kept) > MAX_RUNS:
        kept.popitem(last=False)


def take(key: str) -> Run | None:
    """A run that was asked for the same, which is then no longer kept; None if there is none."""
    return kept.pop(key, None)


def last_canvas() -> Canvas:
    """What the last run that was cancelled, and not finished since, had decided.

    Raises:
        ValueError: there is none.
    """
    if not kept:
        raise ValueError("no run of Sample Codes was cancelled, so there is nothing to recall; cancel one first")
    run = next(reversed(kept.values()))
    return run.start.with_cells(run.state.indices, run.state.known)


def last_change() -> tuple[str, int]:
    """Changes whenever `last_canvas` does."""
    if not kept:
        return "", 0
    key, run = next(reversed(kept.items()))
    return key, int(run.state.known.sum())
