"""Evaluate windows: logits of their cells, with the least work that gives the same numbers.

Attention is causal, so a cell's logits need the prefix and the cells before it. While the window stands still its
cache is kept; once it has moved every token has another position, and all is evaluated anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..conditions.base import Condition
from ..geometry import Window
from ..prefix import Prefix
from ..priors.base import Cache, Prior
from .schedule import Segment


class WindowEvaluator:
    """Opens windows of the codes [B, h, w] of a padded canvas, which change between one call and the next.

    Several conditions, for guidance, are evaluated as one batch.
    """

    def __init__(self, prior: Prior, conditions: Sequence[Condition], padded: Tensor):
        self.prior, self.conditions, self.padded = prior, conditions, padded
        self.decoder = prior.decoder()
        self.cached: dict[Window, Cache] = {}

    def open(self, group: list[Segment]) -> OpenWindows:
        """The windows of G segments that have the same places in them; a kept cache is continued."""
        segment = group[0]
        cache = self.cached.pop(segment.window) if segment.resumes else None
        return OpenWindows(self, group, cache, self._room(segment))

    def close(self, group: list[Segment], windows: OpenWindows) -> None:
        """Keep the cache where a later segment continues from it."""
        if group[0].kept and windows.cache is not None:
            self.cached[group[0].window] = windows.cache

    def _room(self, segment: Segment) -> int:
        if segment.kept:
            return self.prior.window**2
        return segment.places[-1] if len(segment.visits) > 1 else 0

    def prefix(self, windows: list[Window]) -> Prefix:
        """Those of all conditions and windows, [C * G * (1 or B)] rows."""
        every = [Prefix.of(c.prefix(w)).to(self.padded.device) for c in self.conditions for w in windows]
        rows = max(len(prefix) for prefix in every)
        return Prefix.cat([prefix.expand(rows) for prefix in every]) if len(every) > 1 else every[0]

    def numbers(self, windows: list[Window]) -> Tensor:
        """The canvas's cells under each window, numbered row by row: [G, cells]."""
        height, width = self.padded.shape[1:]
        numbers = [
            window.row_index(height, self.padded.device).unsqueeze(1) * width
            + window.column_index(width, self.padded.device)
            for window in windows
        ]
        return torch.stack([number.flatten() for number in numbers])


class OpenWindows:
    """G windows side by side, evaluated up to the same cell."""

    def __init__(self, evaluator: WindowEvaluator, group: list[Segment], cache: Cache | None, room: int):
        self.evaluator, self.windows, self.cache, self.room = evaluator, [s.window for s in group], cache, room
        self.under, self.order = evaluator.numbers(self.windows), None
        if group[0].order:
            self.order = torch.tensor([segment.order for segment in group], device=self.under.device)  # [G, cells]
            self.under = self.under.gather(1, self.order)

    @property
    def done(self) -> int:
        """Cells evaluated so far."""
        return self.cache.cells if self.cache is not None else 0

    def evaluate(self, end: int, last: int) -> Tensor:
        """Evaluate the cells before place `end`, with their present codes.

        Returns:
            Logits [C, G * B, last, K] for each condition, of the cells at places end + 1 - last to end.
        """
        evaluator, done = self.evaluator, self.done
        # [B, G, n] -> [C * G * B, n]
        cells = evaluator.padded.flatten(1)[:, self.under[:, done:end]].transpose(0, 1).flatten(0, 1)
        cells = cells.repeat(len(evaluator.conditions), 1) if len(evaluator.conditions) > 1 else cells
        if self.cache is None:
            prefix = evaluator.prefix(self.windows)
            if self.order is not None:
                prefix = replace(prefix, per_cell=self._orders(self.order, len(prefix)))
            logits, self.cache = evaluator.prior.start(prefix, cells, last, self.room)
        else:
            logits = evaluator.decoder(cells, self.cache, last)
        return logits.view(len(evaluator.conditions), -1, *logits.shape[1:])

    def _orders(self, order: Tensor, rows: int) -> Tensor:
        """The windows' orders for prefixes of all conditions and images, [rows, cells]."""
        each = rows // (len(self.evaluator.conditions) * len(self.windows))
        return order.repeat_interleave(each, 0).repeat(len(self.evaluator.conditions), 1)

    def rollback(self, cells: int) -> None:
        """Forget what comes after the first cells."""
        if self.cache is not None:
            self.cache.rollback(cells)
