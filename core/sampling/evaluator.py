"""Reading windows: logits for one cell after the other, with the least work that gives the same numbers.

Attention is causal, so a cell's logits need the prefix and the cells before it, and of the last layer one
position. While the window stands still its keys and values are kept; once it has moved every token has another
position, and all is read anew (section 3.2.3).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from ..conditions.base import Condition
from ..geometry import Window
from ..priors.kv_cache import KVCache
from ..priors.token_decoder import TokenDecoder
from ..priors.transformer import Transformer
from .schedule import Segment


class WindowEvaluator:
    """Reads windows of a board of codes [B, h, w], which is written to between one cell and the next."""

    def __init__(self, prior: Transformer, condition: Condition, padded: Tensor):
        self.prior, self.condition, self.padded = prior, condition, padded
        self.remembered: dict[Window, KVCache] = {}
        self.decoders: dict[int, TokenDecoder] = {}  # one sequence, two, and (at 3) any more

    def evaluate(self, batch: list[Segment]) -> Iterator[Tensor]:
        """Logits [G * B, K] for each cell of a stretch, of G stretches with the same places at once.

        The codes before a cell must be on the board when its logits are asked for.
        """
        stretch, places = batch[0], batch[0].places
        under = self.numbers([s.window for s in batch])
        if stretch.resumes:
            cache = self.remembered.pop(stretch.window)
            seen = cache.length - self.prior.config.prefix_length
            logits = self.advance(self.codes(under[:, seen : places[0]]), cache)
        else:
            logits, cache = self.start(batch, self.codes(under[:, : places[0]]))
        yield logits
        for seen, place in pairwise(places):
            yield self.advance(self.codes(under[:, seen:place]), cache)
        if stretch.kept:
            self.remembered[stretch.window] = cache

    def start(self, batch: list[Segment], cells: Tensor) -> tuple[Tensor, KVCache | None]:
        """Read windows up to a cell, `cells` [G * B, n] being those before it; the logits, and what to go on with.

        Pictures that share a prefix have it read once.
        """
        stretch, prior = batch[0], self.prior
        prefixes = [self.condition.prefix(s.window).to(self.padded.device) for s in batch]  # each [1 or B, P]
        prefix, each = torch.cat(prefixes), len(self.padded) // len(prefixes[0])
        # what is kept goes on anywhere in the window
        room = prior.config.context if stretch.kept else prefix.shape[1] + stretch.places[-1]
        if each == 1:
            cache = prior.new_cache(len(prefix), room) if stretch.kept or len(stretch.places) > 1 else None
            return prior.prefill(torch.cat([prefix, cells], 1), cache), cache
        cache = prior.new_cache(len(prefix), room)
        logits = prior.prefill(prefix, cache).repeat_interleave(each, 0)
        cache = cache.expand(len(prefix) * each)
        return prior.prefill(cells, cache) if cells.shape[1] else logits, cache

    def advance(self, cells: Tensor, cache: KVCache) -> Tensor:
        """Logits after the next cells [G * B, n] of windows that stand still."""
        if cells.shape[1] > 1:
            return self.prior.prefill(cells, cache)
        kind = min(cache.batch, 3)
        if kind not in self.decoders:
            self.decoders[kind] = TokenDecoder(self.prior, cache.batch)
        cache.decoder = self.decoders[kind]
        return self.prior.decode_one(cells[:, 0], cache)

    def numbers(self, windows: list[Window]) -> Tensor:
        """The board's cells under each window, numbered row by row: [G, cells]."""
        height, width = self.padded.shape[1:]
        rows, columns = (
            torch.tensor([getattr(window, name)(size) for window in windows], device=self.padded.device)
            for name, size in (("rows", height), ("columns", width))
        )
        return (rows.unsqueeze(2) * width + columns.unsqueeze(1)).flatten(1)

    def codes(self, numbers: Tensor) -> Tensor:
        """What the board's cells [G, n] hold now: [G * B, n]."""
        return self.padded.flatten(1)[:, numbers].transpose(0, 1).flatten(0, 1)  # [B, G, n] -> [G * B, n]
