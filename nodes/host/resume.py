"""Runs, kept so that the same run goes on from there: what was cancelled is not lost, and what is finished is not
painted again where a change has no part in it."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import torch

from ...core.canvas.canvas import Canvas
from ...core.sampling.state import SamplingState
from ...core.sampling.trace import SamplingTrace

MAX_RUNS = 40  # runs kept: more than a sweep has


class Run(NamedTuple):
    """How far a run came."""

    state: SamplingState
    trace: SamplingTrace
    start: Canvas  # before it


kept: OrderedDict[str, Run] = OrderedDict()
finished: set[str] = set()  # which of them have their pictures


def keep(key: str, run: Run) -> None:
    """Remember a run as the last one, unless nothing is painted yet; `key` is the fingerprint of all that it was asked
    for."""
    if not run.state.draws.any():
        return
    run.state.move_to(torch.device("cpu"))
    kept.pop(key, None)
    kept[key] = run
    finished.discard(key)
    while len(kept) > MAX_RUNS:
        finished.discard(kept.popitem(last=False)[0])


def finish(*keys: str) -> None:
    """Runs whose pictures are made, so that there is nothing to recall."""
    finished.update(key for key in keys if key in kept)


def _last_unfinished() -> str | None:
    return next((key for key in reversed(kept) if key not in finished), None)


def last_canvas() -> Canvas:
    """What the last run that was cancelled or failed, and was not finished since, had decided.

    Raises:
        ValueError: there is none.
    """
    key = _last_unfinished()
    if key is None:
        raise ValueError("no run of Sample Codes was cancelled or failed, so there is nothing to recall")
    run = kept[key]
    return run.state.canvas


def last_change() -> tuple[str, int]:
    """Changes whenever `last_canvas` does."""
    key = _last_unfinished()
    return ("", 0) if key is None else (key, int(kept[key].state.known.sum()))
