"""The transformer's memory while sampling: keys and values of the tokens so far.

Pictures sampled side by side mostly begin with the same prefix. Its keys and values are kept once for all
of them (`shared`), and read once a step; only what differs is kept for each (`own`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from .decoding import Decoder


class LayerCache(NamedTuple):
    """One layer's keys, at [0], and values, at [1]; written in place."""

    shared: Tensor  # [2, heads, S, d] of the first S tokens; S is 0 where nothing is shared
    own: Tensor  # [2, B, heads, room, d] of the tokens after them

    def append(self, k: Tensor, v: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Store keys and values [B, heads, T, d] of the tokens from `start` on; all up to there, likewise."""
        first = start - self.shared.shape[2]
        end = first + k.shape[2]
        self.own[0, :, :, first:end], self.own[1, :, :, first:end] = k, v
        own = self.own[:, :, :, :end]
        if first < start:
            shared = self.shared.unsqueeze(1).expand(-1, own.shape[1], -1, -1, -1)
            own = torch.cat([shared, own], 3)
        return own[0], own[1]

    def attend_one(self, q: Tensor, k: Tensor, v: Tensor, position: int) -> Tensor:
        """Store one token's k and v, and attend from it to all so far: [B, heads, d] -> [B, heads, d]."""
        shared = self.shared.shape[2]
        place = position - shared
        self.own[0, :, :, place], self.own[1, :, :, place] = k, v
        k, v = self.own[:, :, :, : place + 1].unbind()  # [B, heads, t, d]
        q = q.unsqueeze(2)  # [B, heads, 1, d]
        if shared == 0:
            return F.scaled_dot_product_attention(q, k, v).squeeze(2)
        to_shared = across_batch(q, self.shared[0].mT)  # [B, heads, 1, S]
        to_own = (k @ q.mT).mT  # [B, heads, 1, t]
        weights = (torch.cat([to_shared, to_own], 3) * q.shape[3] ** -0.5).softmax(3)
        attended = across_batch(weights[..., :shared], self.shared[1]) + weights[..., shared:] @ v
        return attended.squeeze(2)


def across_batch(rows: Tensor, matrix: Tensor) -> Tensor:
    """Rows [B, heads, 1, n] times one matrix a head, [heads, n, m], read once -> [B, heads, 1, m]."""
    return (rows.squeeze(2).transpose(0, 1) @ matrix).transpose(0, 1).unsqueeze(2)


class KVCache:
    """Keys and values of all layers, room for the whole context taken at once; `length` tokens are filled.

    It belongs to the weights it was filled with: after a change of these, begin a new one.
    """

    def __init__(self, shared: Tensor, own: Tensor, length: int):
        self.shared, self.own, self.length = shared, own, length  # one row of each for a layer
        self.layers = [LayerCache(*pair) for pair in zip(shared, own, strict=True)]
        self.decoder: Decoder | None = None  # made when the first single token comes

    @classmethod
    def empty(cls, layers: int, batch: int, heads: int, context: int, width: int, like: Tensor) -> KVCache:
        """A cache for `batch` sequences with nothing in it; `width` of a head, dtype and device of `like`."""
        shared = like.new_empty(layers, 2, heads, 0, width)
        return cls(shared, like.new_empty(layers, 2, batch, heads, context, width), 0)

    @property
    def batch(self) -> int:
        """How many sequences it holds."""
        return self.own.shape[2]

    def expand(self, batch: int) -> KVCache:
        """From a cache of one sequence, one for `batch` that go on from there; itself where that is 1."""
        if batch == self.batch:
            return self
        layers, _, _, heads, context, width = self.own.shape
        room = self.own.new_empty(layers, 2, batch, heads, context - self.length, width)
        return KVCache(self.own[:, :, 0, :, : self.length], room, self.length)
