"""A prior that draws the cells of a window in any order, so that it sees all that is known, before and after.

    prefix, query 0, code 0, query 1, code 1, ... --blocks of `llama`--> logits at the queries

RandAR's design (arXiv 2412.15127). A query is one learned vector turned by the rotary factors of the cell it asks for;
code and query both stand at that cell. What is known comes first, then the unknown cells in the order of their drawing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..prefix import Prefix
from ..storage.kinds import Kind
from .base import Prior
from .llama import Llama, LlamaConfig, attention_mask, repeat_rows
from .packed_module import pack_module
from .rotary import grid_rotations, rotate


@dataclass
class AnyOrderCache:
    """Keys and values of windows that stand still, and the rotary factors of their cells in order."""

    past: Tensor  # [layers, 2, B, heads, room, d]
    rotation: Tensor  # [B, 1, window**2, d/2] complex
    cells: int = 0  # evaluated so far

    def rollback(self, cells: int) -> None:
        """Forget all but the first `cells` cells."""
        self.cells = cells


class AnyOrderLlama(nn.Module, Prior):
    """The prior. Its prefix is one class token; `Prefix.per_cell` [B, window**2] int64 is the order: the cells' numbers
    in the window, row by row. Cells, given or drawn, are counted in this order, and without one row by row."""

    config: LlamaConfig
    any_order = True

    def __init__(self, config: LlamaConfig):
        super().__init__()
        if config.feature_width or config.control_layers or config.prefix_length != 1:
            raise ValueError("a prior of any order has one class token as prefix, no text and no control layers")
        self.config = config
        self.llama = Llama(config)
        self.query = nn.Parameter(0.02 * torch.randn(1, config.width))

    def forward(self, prefix: Prefix | Tensor, cells: Tensor) -> Tensor:
        """Logits [B, n, K] of every cell from the prefix and the cells [B, n] before it, in the order of the prefix."""
        prefix = Prefix.of(prefix)
        prefix = prefix.expand(len(cells))
        return self._first(prefix, cells[:, :-1], cells.shape[1], self._order_rotations(prefix), None)

    def check_prefix(self, prefix: Prefix) -> None:
        """Raise ValueError for a prefix that is not a class token of this prior's and an order of its window."""
        order = prefix.per_cell
        self.llama.check_prefix(Prefix(prefix.tokens))
        wanted = torch.arange(self.window**2)
        if order is not None and not all(torch.equal(row.cpu(), wanted) for row in order.sort(1).values):
            raise ValueError(f"the order must name each of the {self.window**2} cells of a window once")

    def cache_bytes(self, cells: int, sharing: int = 1) -> int:
        """Bytes of one sequence's cache: keys and values of its prefix and of `cells` queries and codes."""
        return self.llama.cache_bytes(2 * cells + 1)

    def work_bytes(self, sequences: int, steps: int) -> int:
        """Bytes at most that evaluating takes beyond weights and caches."""
        return self.llama.work_bytes(2 * sequences, 2 * steps)

    @torch.no_grad()
    def start(self, prefix: Prefix, cells: Tensor, last: int = 1, room: int = 0) -> tuple[Tensor, AnyOrderCache | None]:
        """Evaluate a window's prefix and its first cells [B, n], in order; see `base.Prior`."""
        prefix = repeat_rows(prefix, len(cells))
        rotation = self._order_rotations(prefix)
        if not room:
            return self._first(prefix, cells, last, rotation, None), None
        c = self.config
        shape = (c.layers, 2, len(cells), c.heads, 2 * room + 2, c.width // c.heads)
        cache = AnyOrderCache(self.query.new_empty(shape), rotation, cells.shape[1])
        return self._first(prefix, cells, last, rotation, cache.past), cache

    def decoder(self) -> AnyOrderDecoder:
        """What evaluates more cells, with the weights as they are now."""
        return AnyOrderDecoder(self)

    def _first(self, prefix: Prefix, cells: Tensor, last: int, rotation: Tensor, past: Tensor | None) -> Tensor:
        """Prefix and cells [B, n] from the beginning: the last predictions' logits [B, last, K]."""
        classes = self.llama.tok_embeddings(prefix.tokens)  # [B, 1, C]
        first = torch.cat([classes, self._queries(rotation[:, :, :1])], 1)
        pairs, turned = self._pairs(self.llama.tok_embeddings(cells), rotation[:, :, : cells.shape[1] + 1])
        # the prefix's queries and keys are turned to zero, as LlamaGen's are
        turned = torch.cat([torch.zeros_like(rotation[:, :, :1]), rotation[:, :, :1], turned], 2)
        x = torch.cat([first, pairs], 1)
        mask = attention_mask(0, x.shape[1], None, x.device)
        return self.llama.run(x, turned, mask, past, 0, 2 * last - 1)[:, ::2]

    def _pairs(self, codes: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
        """Embedded codes [B, m, C], each followed by the query of the next cell, [B, 2m, C], and their rotary factors
        [B, 1, 2m, d/2]; `rotation` [B, 1, m + 1, d/2] is that of the codes and the cell after them."""
        here, following = rotation[:, :, : codes.shape[1]], rotation[:, :, 1:]
        pairs = torch.stack([codes, self._queries(following)], 2).flatten(1, 2)
        return pairs, torch.stack([here, following], 3).flatten(2, 3)

    def _queries(self, rotation: Tensor) -> Tensor:
        """The queries of cells with rotary factors [B, 1, m, d/2]: [B, m, C]."""
        c = self.config
        query = self.query.view(1, c.heads, 1, -1).expand(len(rotation), -1, rotation.shape[2], -1)
        return rotate(query, rotation).transpose(1, 2).flatten(2)

    def _order_rotations(self, prefix: Prefix) -> Tensor:
        """Rotary factors of the cells in the order of each row of the prefix, [B, 1, window**2, d/2]."""
        c = self.config
        cells = grid_rotations(c.window, c.width // c.heads, c.rope_base, self.device)
        if prefix.per_cell is None:
            return cells.expand(len(prefix), 1, -1, -1)
        return cells[prefix.per_cell.to(cells.device)].unsqueeze(1)


class AnyOrderDecoder:
    """Evaluates more cells of windows that stand still."""

    def __init__(self, prior: AnyOrderLlama):
        self.prior = pack_module(prior)

    @torch.no_grad()
    def __call__(self, cells: Tensor, cache: AnyOrderCache, last: int | None = None) -> Tensor:
        """Cells [B, m], which follow the cache's -> logits [B, last or m, K] of what follows the last of them; the last
        cell of a window has nothing after it."""
        end = cache.cells + cells.shape[1]
        prior, start = self.prior, 2 * cache.cells + 2  # after the prefix and a query for each cell, and one more
        rotation = cache.rotation[:, :, cache.cells : end + 1]
        x, turned = prior._pairs(prior.llama.tok_embeddings(cells), rotation)
        mask = attention_mask(start, start + x.shape[1], None, x.device)
        logits = prior.llama.run(x, turned, mask, cache.past, start, 2 * last - 1 if last else 0)[:, last is None :: 2]
        cache.cells = end
        return logits


KIND: Kind[Prior] = Kind("any-order", AnyOrderLlama, LlamaConfig)
