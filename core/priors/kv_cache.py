"""The transformer's memory while sampling: keys and values of the tokens so far.

Images sampled side by side mostly begin with the same prefix. Its keys and values are kept once for all
of them (`shared`), and read once a step; only what differs is kept for each (`own`). With several windows at
work, each window's images form a group, group after group.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class LayerCache(NamedTuple):
    """One layer's keys, at [0], and values, at [1]; written in place."""

    shared: Tensor  # [2, G, heads, S, d] of the first S tokens; S is 0 where nothing is shared
    own: Tensor  # [2, B, heads, room, d] of the tokens after them; B is G groups of sequences

    def append(self, k: Tensor, v: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Store keys and values [B, heads, T, d] of the tokens from `start` on; all up to there, likewise."""
        first = start - self.shared.shape[3]
        end = first + k.shape[2]
        self.own[0, :, :, first:end], self.own[1, :, :, first:end] = k, v
        own = self.own[:, :, :, :end]
        if first < start:
            each = own.shape[1] // self.shared.shape[1]
            own = torch.cat([self.shared.repeat_interleave(each, 1), own], 3)
        return own[0], own[1]

    def attend(self, q: Tensor, kv: Tensor, start: int, mask: Tensor | None) -> Tensor:
        """Store the next m tokens' keys and values and attend from these tokens, reading shared ones once.

        Args:
            q: [B, heads, m, d].
            kv: [2, B, heads, m, d].
            mask: [m, start + m] bool, who may look where; None where all may.
        Returns:
            [B, heads, m, d].
        """
        shared = self.shared.shape[3]
        first, end = start - shared, start - shared + q.shape[2]
        self.own[:, :, :, first:end] = kv
        k, v = self.own[:, :, :, :end].unbind()  # [B, heads, t, d]
        if shared == 0:
            return F.scaled_dot_product_attention(q, k, v, mask)
        q = q * q.shape[3] ** -0.5
        scores = torch.cat([_across_batch(q, self.shared[0].mT), q @ k.mT], 3)  # [B, heads, m, S + t]
        weights = (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(3)
        return _across_batch(weights[..., :shared], self.shared[1]) + weights[..., shared:] @ v


class SharedPast:
    """One layer's keys and values of a prefix [1, P] that all images of a batch share, in training: gradients
    flow back through it. The prefix is appended first, then all else at once."""

    def __init__(self):
        self.prefix: tuple[Tensor, Tensor] | None = None

    def append(self, k: Tensor, v: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Keys and values [B, heads, T, d] of the tokens from `start` on; all up to there, likewise."""
        if start == 0 or self.prefix is None:
            self.prefix = k, v
            return k, v
        past_k, past_v = (past.expand(len(k), -1, -1, -1) for past in self.prefix)
        return torch.cat([past_k, k], 2), torch.cat([past_v, v], 2)


def _across_batch(rows: Tensor, matrices: Tensor) -> Tensor:
    """Rows [B, heads, m, n] times one matrix a group and head, [G, heads, n, o], read once -> [B, heads, m, o]."""
    (batch, heads, length, _), groups = rows.shape, len(matrices)
    rows = rows.view(groups, batch // groups, heads, length, -1).transpose(1, 2).flatten(2, 3)  # [G, heads, B/G*m, n]
    product = (rows @ matrices).view(groups, heads, batch // groups, length, -1)
    return product.transpose(1, 2).flatten(0, 1)


class KVCache:
    """Keys and values of all layers, room for all tokens taken at once; `length` tokens are filled.

    Invalid after a weight update; create a new cache.
    """

    def __init__(self, shared: Tensor, own: Tensor, prefix: int, length: int = 0):
        self.shared, self.own, self.prefix, self.length = shared, own, prefix, length  # a row of tensors a layer
        self.control: Tensor | None = None  # [B, prefix + cells, C], what is added to the stream at each token
        self.layers = [LayerCache(*pair) for pair in zip(shared, own, strict=True)]

    @classmethod
    def empty(cls, layers: int, batch: int, heads: int, prefix: int, cells: int, width: int, like: Tensor) -> KVCache:
        """A cache with nothing in it for `batch` sequences of a prefix and at most `cells` cells; `width` of a head,
        dtype and device of `like`."""
        shared = like.new_empty(layers, 2, batch, heads, 0, width)
        return cls(shared, like.new_empty(layers, 2, batch, heads, prefix + cells, width), prefix)

    @property
    def cells(self) -> int:
        """How many of the tokens come after the prefix."""
        return self.length - self.prefix

    def rollback(self, cells: int) -> None:
        """Forget all but the first `cells` cells."""
        self.length = self.prefix + cells

    def expand(self, batch: int) -> KVCache:
        """A cache for `batch` sequences that go on from these, each in a group; itself where that is as many."""
        layers, _, present, heads, room, width = self.own.shape
        if batch == present:
            return self
        own = self.own.new_empty(layers, 2, batch, heads, room - self.length, width)
        return KVCache(self.own[:, :, :, :, : self.length], own, self.prefix, self.length)
