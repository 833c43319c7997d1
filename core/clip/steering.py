"""Steer a prior by words, without gradients: particles over rows.

Several images are sampled side by side. After each row, from a third of the canvas on, each is decoded as far as it
goes, before a finished sample, and scored. Images that fit the words badly are replaced by copies of those that fit
well, and all go on, each with its own noise: sequential Monte Carlo (Doucet et al. 2001) with the prior as proposal
and exp(score / temperature) as its target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..canvas.canvas import Canvas
from ..conditions.base import Condition
from ..priors.base import Prior
from ..sampling.loop import sample_steps
from ..sampling.settings import SamplingSettings
from ..sampling.state import SamplingState

Score = Callable[[Canvas], Tensor]  # a whole canvas [K] -> [K], higher is better


@dataclass(frozen=True, kw_only=True)
class SteeringSettings:
    """How hard images are selected. ValueError for values out of range.

    begin: share of the rows that are painted before the first look: what is known of less says little.
    warm, cold: temperature of the first and of the last look, in the score's units.
    """

    begin: float = 1 / 3
    warm: float = 0.05
    cold: float = 0.01

    def __post_init__(self):
        if not 0 <= self.begin <= 1:
            raise ValueError(f"begin is {self.begin}; choose a share of the rows, 0 to 1")
        if not 0 < self.cold <= self.warm:
            raise ValueError(f"temperatures go from {self.warm} down to {self.cold}; choose numbers above 0")


class SteeringEvent(NamedTuple):
    """After a draw, and after a look."""

    done: int  # draws
    total: int
    state: SamplingState
    scores: Tensor | None  # [K] where images were looked at
    copied: int  # how many were replaced


def steer_steps(
    prior: Prior,
    condition: Condition,
    state: SamplingState,
    settings: SamplingSettings,
    score: Score,
    backdrop: Canvas,
    steering: SteeringSettings | None = None,
) -> Iterator[SteeringEvent]:
    """Fill the canvases of `state`, the particles, in place; the last event has their final scores.

    Args:
        score: of canvases whose unknown cells stand as in `backdrop`.
        backdrop: one finished image of the same size.
    Raises:
        ValueError: fewer than two particles, or a backdrop of another size.
    """
    count, height = state.indices.shape[:2]
    if count < 2:
        raise ValueError("one particle can't be chosen from; use at least 2")
    if backdrop.size != tuple(state.indices.shape[1:]):
        raise ValueError(f"the backdrop is {backdrop.size}, the canvas {tuple(state.indices.shape[1:])} cells")
    steering = steering or SteeringSettings()
    generator = torch.Generator().manual_seed(state.seed)
    looks = [row for row in range(round(steering.begin * height), height - 1) if not bool(state.known[:, row].all())]
    left = int((~state.known).any(0).sum())
    total = left
    while left:
        for _ in sample_steps(prior, condition, state, settings):
            left = int((~state.known).any(0).sum())
            yield SteeringEvent(total - left, total, state, None, 0)
            if not looks or not bool(state.known[:, : looks[0] + 1].all()):
                continue
            rows = looks.pop(0) + 1
            scores = score(in_front_of(state, backdrop, rows)).float().cpu()
            temperature = steering.warm + (steering.cold - steering.warm) * rows / height
            ancestors = resample(scores, temperature, generator)
            copied = count - len(ancestors.unique())
            if copied:
                forget_rows(state, rows)
                keep_images(state, ancestors)
            yield SteeringEvent(total - left, total, state, scores, copied)
            if copied:
                break  # what the loop has cached belongs to images that are gone
    yield SteeringEvent(total, total, state, score(in_front_of(state, backdrop)).float().cpu(), 0)


def resample(scores: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Which image each particle goes on with, [K] int64: systematic resampling by softmax(scores / temperature), and
    everyone itself while at least half of the particles count. A particle that stays keeps its place."""
    count = len(scores)
    weights = (scores / temperature).softmax(0).double()
    if 1 / weights.square().sum() >= count / 2:
        return torch.arange(count)
    points = (torch.arange(count) + torch.rand(1, generator=generator)) / count
    copies = torch.bincount(
        torch.searchsorted(weights.cumsum(0), points.double()).clamp(max=count - 1), minlength=count
    )
    ancestors = torch.arange(count)
    ancestors[copies == 0] = torch.arange(count).repeat_interleave((copies - 1).clamp(min=0))
    return ancestors


def keep_images(state: SamplingState, which: Tensor) -> None:
    """Replace the images of a run by some of them, in place; noise goes with the place, so copies differ from here."""
    for name, value in vars(state).items():
        if isinstance(value, Tensor) and value.ndim and len(value) == len(which):
            setattr(state, name, value[which.to(value.device)])


def forget_rows(state: SamplingState, rows: int) -> None:
    """Take back what was drawn below the first `rows`: the loop may have run ahead, how far depends on the machine."""
    drawn = state.draws > 0
    drawn[:, :rows] = False
    state.known = state.known & ~drawn
    for name in ("draws", "entropy", "log_probability"):
        setattr(state, name, getattr(state, name).masked_fill(drawn, 0))


def in_front_of(state: SamplingState, backdrop: Canvas, rows: int | None = None) -> Canvas:
    """What is painted, or of it what is given and the first `rows`, before a finished image: all cells known."""
    shown = state.known
    if rows is not None:
        shown = shown & ((state.draws == 0) | (torch.arange(shown.shape[1], device=shown.device) < rows)[:, None])
    behind = backdrop.indices.to(state.indices.device).expand_as(state.indices)
    return Canvas.filled(torch.where(shown, state.indices, behind))
