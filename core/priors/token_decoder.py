"""A few more tokens of sequences that go on, as fast as the weights can be read.

The operations are those of `blocks.Block`. But a product of a weight matrix with a few rows costs the
time to read the matrix, and how fast that goes depends on its layout, so each matrix is laid out once for
few rows, and a pass then costs little besides the reading, for one token or for several.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .blocks import Block
from .kv_cache import KVCache, LayerCache
from .packed_linear import PackedLinear


class BlockDecoder:
    """A block for a few tokens a sequence; keys and values go into its layer's cache."""

    def __init__(self, block: Block):
        widen, narrow = (layer for layer in block.mlp if isinstance(layer, nn.Linear))
        self.activation = block.mlp[1]
        layers = (block.attn.qkv, block.attn.proj, widen, narrow)
        self.qkv, self.proj, self.widen, self.narrow = (PackedLinear(layer) for layer in layers)
        self.ln1, self.ln2, self.heads = block.ln1, block.ln2, block.attn.heads

    def __call__(self, x: Tensor, past: LayerCache, start: int, batch: int, mask: Tensor | None) -> Tensor:
        """[B * m, C], the m tokens of each sequence from `start` on -> [B * m, C]."""
        qkv = self.qkv(self.ln1(x)).view(batch, -1, 3, self.heads, x.shape[1] // self.heads)
        qkv = qkv.permute(2, 0, 3, 1, 4)  # [3, B, heads, m, d]
        attended = past.attend(qkv[0], qkv[1:], start, mask)
        x = x + self.proj(attended.transpose(1, 2).reshape(x.shape))  # [B, heads, m, d] -> [B * m, C]
        return x + self.narrow(self.activation(self.widen(self.ln2(x))))


class TransformerDecoder:
    """A transformer for a few tokens a sequence, of its parts: see `base.TokenDecoder`."""

    def __init__(
        self, tok_emb: nn.Embedding, pos_emb: Tensor, blocks: Iterable[Block], ln_f: nn.Module, head: nn.Linear
    ):
        self.tok_emb, self.positions, self.ln_f = tok_emb, pos_emb[0], ln_f
        self.blocks = [BlockDecoder(block) for block in blocks]
        self.head = PackedLinear(head)
        context = len(self.positions)
        self.mask = torch.ones(context, context, dtype=torch.bool, device=pos_emb.device).tril_()

    @torch.no_grad()
    def __call__(self, cells: Tensor, cache: KVCache, last: int | None = None) -> Tensor:
        """Cells [B, m] -> logits [B, last, K]."""
        (batch, length), start = cells.shape, cache.length
        end = start + length
        x = self.tok_emb(cells) + self.positions[start:end]
        x = (x if cache.control is None else x + cache.control[:, start:end]).flatten(0, 1)  # [B * m, C]
        mask = None if length == 1 else self.mask[start:end, :end]
        for block, past in zip(self.blocks, cache.layers, strict=True):
            x = block(x, past, start, batch, mask)
        cache.length = end
        if last is not None and last < length:
            x = x.view(batch, length, -1)[:, -last:].flatten(0, 1)
        return self.head(self.ln_f(x)).view(batch, -1, self.head.layer.out_features)
