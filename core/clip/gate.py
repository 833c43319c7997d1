"""The gate: try seeds until an image is good enough, or the tries are used up (the released code's rejection).

Each term scores images its own way: words, a reference, realism, likelihood, agreement with the condition. Terms are
made comparable by what real images reach, where that is known; else 100 times the score itself counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

MAX_TRIES = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class Term:
    """One way to score.

    quantiles: scores [n], ascending, that real images reach; None where no such table is known.
    bounded: scores are at most 1, so that they say something without a table, too.
    """

    name: str
    weight: float = 1.0
    quantiles: Tensor | None = None
    bounded: bool = True

    def __post_init__(self):
        if self.weight <= 0:
            raise ValueError(f"the weight of {self.name} is {self.weight}; choose one above 0, or leave it out")
        if self.quantiles is None and not self.bounded:
            raise ValueError(
                f"there is no table of what real pictures reach in {self.name}, whose scores mean nothing by "
                "themselves; take a discriminator that `train vqgan` wrote, or leave it out"
            )

    def percent(self, scores: Tensor) -> Tensor:
        """How many of a hundred real images score below: [B] -> [B]; without a table 100 times the score itself."""
        if self.quantiles is None:
            return 100 * scores
        table = self.quantiles.to(scores)
        return 100 * torch.searchsorted(table, scores) / len(table)


class Tried(NamedTuple):
    """What has been tried so far."""

    percents: Tensor  # [tries, terms]
    totals: Tensor  # [tries], the weighted mean
    passed: bool

    @property
    def best(self) -> int:
        """Number of the best try."""
        return int(self.totals.argmax())


def gate(
    make: Callable[[int], Sequence[Tensor]], terms: Sequence[Term], threshold: float, tries: int, batch: int
) -> Iterator[Tried]:
    """Try until one passes; an event after each batch.

    Args:
        make: number of the first try of a batch -> the scores [B] of its images by each term.
        threshold: weighted mean of the terms' percents that is good enough.
        tries: at most this many images.
        batch: how many `make` makes at a time.
    Raises:
        ValueError: no terms, or numbers out of range.
    """
    if not terms:
        raise ValueError("there is nothing to judge by; give words, a reference or another term")
    if not 1 <= batch <= tries <= MAX_TRIES:
        raise ValueError(f"{tries} tries, {batch} at a time; choose 1 to {MAX_TRIES}, at most all at once")
    weights = torch.tensor([term.weight for term in terms])
    percents = torch.empty(0, len(terms))
    while len(percents) < tries:
        scores = make(len(percents))
        found = torch.stack([term.percent(s.float().cpu()) for term, s in zip(terms, scores, strict=True)], 1)
        percents = torch.cat([percents, found])
        totals = percents @ weights / weights.sum()
        yield Tried(percents, totals, bool(totals.max() >= threshold))
        if totals.max() >= threshold:
            return
