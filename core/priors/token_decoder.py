"""One more token, as fast as the processor can read the weights.

The operations are those of `transformer.Block`. But a product of a weight matrix with a few rows costs the
time to read the matrix, and how fast that goes depends on its layout, so each matrix is laid out once for
the number of sequences at hand, and a token then costs little besides the reading.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from .kv_cache import LayerCache

if TYPE_CHECKING:
    from .transformer import Block, Transformer

from .packed_linear import pack_linear


class BlockDecoder:
    """A block for one token a sequence; keys and values go into its layer's cache."""

    def __init__(self, block: Block, rows: int):
        widen, self.activation, narrow = block.mlp
        layers = (block.attn.qkv, block.attn.proj, widen, narrow)
        self.qkv, self.proj, self.widen, self.narrow = (pack_linear(layer, rows) for layer in layers)
        self.ln1, self.ln2, self.heads = block.ln1, block.ln2, block.attn.heads

    def __call__(self, x: Tensor, past: LayerCache, position: int) -> Tensor:
        """[B, C] -> [B, C]"""
        q, k, v = self.qkv(self.ln1(x)).view(len(x), 3, self.heads, -1).unbind(1)  # each [B, heads, d]
        x = x + self.proj(past.attend_one(q, k, v, position).reshape(x.shape))
        return x + self.narrow(self.activation(self.widen(self.ln2(x))))


class TokenDecoder:
    """A transformer for one token a sequence: for `rows` sequences where that is 1 or 2, else for any more.

    It belongs to the weights it was made of: after a change of these, make a new one.
    """

    def __init__(self, prior: Transformer, rows: int):
        self.prior = prior
        self.blocks = [BlockDecoder(block, rows) for block in prior.blocks]
        self.head = pack_linear(prior.head, rows)

    def __call__(self, tokens: Tensor, layers: list[LayerCache], position: int) -> Tensor:
        """Tokens [B] at `position` -> logits [B, K] of what follows; the cache's layers are written to."""
        x = self.prior.tok_emb(tokens) + self.prior.pos_emb[0, position]  # [B, C]
        for block, past in zip(self.blocks, layers, strict=True):
            x = block(x, past, position)
        return self.head(self.prior.ln_f(x))
