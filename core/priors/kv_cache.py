"""The transformer's memory while sampling: keys and values of the tokens so far.

Pictures sampled side by side mostly begin with the same prefix. Its keys and values are kept once for all
of them (`shared`), and read once a step; only what differs is kept for each (`own`). With several windows at
work, each window's pictures form a group, group after group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from .token_decoder import TokenDecoder


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

    def attend_one(self, q: Tensor, k: Tensor, v: Tensor, position: int) -> Tensor:
        """Store one token's k and v, and attend from it to all so far: [B, heads, d] -> [B, heads, d]."""
        shared = self.shared.shape[3]
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


class SharedPast:
    """One layer's keys and values of a prefix [1, P] that all pictures of a batch share, in training: gradients
    flow back through it. The prefix is appended first, then all else at once."""

    def __init__(self):
        self.prefix: tuple[Tensor, Tensor] | None = None

    def append(self, k: Tensor, v: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Keys and values [B, heads, T, d] of the tokens from `start` on; all up to there, likewise."""
        if start == 0:
            self.prefix = k, v
            return k, v
        past_k, past_v = (past.expand(len(k), -1, -1, -1) for past in self.prefix)
        return torch.cat([past_k, k], 2), torch.cat([past_v, v], 2)


def across_batch(rows: Tensor, matrices: Tensor) -> Tensor:
    """Rows [B, heads, 1, n] times one matrix a group and head, [G, heads, n, m], read once -> [B, heads, 1, m]."""
    groups, heads = matrices.shape[:2]
    rows = rows.view(groups, -1, heads, rows.shape[3]).transpose(1, 2)  # [G, heads, B/G, n]
    return (rows @ matrices).transpose(1, 2).flatten(0, 1).unsqueeze(2)


class KVCache:
    """Keys and values of all layers, room for the whole context taken at once; `length` tokens are filled.

    It belongs to the weights it was filled with: after a change of these, begin a new one.
    """

    def __init__(self, shared: Tensor, own: Tensor, length: int):
        self.shared, self.own, self.length = shared, own, length  # one row of each for a layer
        self.layers = [LayerCache(*pair) for pair in zip(shared, own, strict=True)]
        self.decoder: TokenDecoder | None = None  # made when the first single token comes, unless one is given

    @classmethod
    def empty(cls, layers: int, batch: int, heads: int, room: int, width: int, like: Tensor) -> KVCache:
        """A cache for `batch` sequences of at most `room` tokens with nothing in it; `width` of a head, dtype and
        device of `like`."""
        shared = like.new_empty(layers, 2, batch, heads, 0, width)
        return cls(shared, like.new_empty(layers, 2, batch, heads, room, width), 0)

    @property
    def batch(self) -> int:
        """How many sequences it holds."""
        return self.own.shape[2]

    def expand(self, batch: int) -> KVCache:
        """A cache for `batch` sequences that go on from these, each in a group; itself where that is as many."""
        if batch == self.batch:
            return self
        layers, _, _, heads, room, width = self.own.shape
        own = self.own.new_empty(layers, 2, batch, heads, room - self.length, width)
        return KVCache(self.own[:, :, :, :, : self.length], own, self.length)
