"""Runs that were cancelled or failed, kept so that the same run goes on from there and their canvas is not lost."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import torch

from ...core.canvas.canvas import Canvas
from ...core.sampling.loop import SamplingState
from ...core.sampling.trace import Forecast

MOST = 40  # runs kept: more than a sweep has


class Run(NamedTuple):
    """How far a run came."""

    state: SamplingState
    forecast: Forecast
    start: Canvas  # before it


kept: OrderedDict[str, Run] = OrderedDict()


def keep(key: str, run: Run) -> None:
    """Remember a run as the last one, unless nothing is painted yet; `key` is the fingerprint of all that it was asked
    for."""
    if not run.state.draws.any():
        return
    run.state.move_to(torch.device("cpu"))
    kept.pop(key, None)
    kept[key] = run
    while len(kept) > MOST:
        kept.popitem(last=False)


def forget(*keys: str) -> None:
    """Runs that are finished, their pictures made."""
    for key in keys:
        kept.pop(key, None)


def last_canvas() -> Canvas:
    """What the last run that was cancelled or failed, and was not finished since, had decided.

    Raises:
        ValueError: there is none.
    """
    if not kept:
        raise ValueError("no run of Sample Codes was cancelled or failed, so there is nothing to recall")
    run = next(reversed(kept.values()))
    return run.start.with_cells(run.state.indices, run.state.known)


def last_change() -> tuple[str, int]:
    """Changes whenever `last_canvas` does."""
    if not kept:
        return "", 0
    key, run = next(reversed(kept.items()))
    return key, int(run.state.known.sum())
