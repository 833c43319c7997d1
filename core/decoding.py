"""One more token, as fast as the processor can read the weights.

The operations are those of `transformer.Block`. But a product of a weight matrix with a few rows costs the
time to read the matrix, and how fast that goes depends on its layout, so each matrix is laid out once for
the number of sequences at hand, and a token then costs little besides the reading.
"""

from __future__ import annotations

import functools
import math
import platform
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .kv_cache import LayerCache

if TYPE_CHECKING:
    from .transformer import Block, Transformer

BLOCKS = 16  # of a weight matrix for one or two rows; the processor's threads share them


def few_rows(layer: nn.Linear, rows: int) -> Callable[[Tensor], Tensor]:
    """`layer` for inputs [rows, C_in], laid out for speed on a processor; its weights must not change.

    One or two rows go as they are or block by block, whichever reads the matrix with all threads. More get the layout
    of oneDNN, a copy, where torch has it; it serves any number of them.
    """
    if not layer.weight.is_cpu or layer.weight.dtype != torch.float32:
        return layer
    if rows <= 2:
        return layer if one_matrix_all_threads() else in_blocks(layer)
    if not torch.backends.mkldnn.is_available():
        return layer
    packed, bias = torch.ops.mkldnn._reorder_linear_weight(layer.weight, rows), layer.bias
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


def in_blocks(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    """`layer` as a batch of products, one for each block of output rows: the threads share these."""
    bias, blocks = layer.bias, math.gcd(layer.out_features, BLOCKS)
    weight = layer.weight.view(blocks, -1, layer.in_features)  # [blocks, C_out/blocks, C_in]

    def multiply(x: Tensor) -> Tensor:
        # the strides of transposed rows, not those of columns, choose the fast kernel
        out = torch.bmm(weight, x.t().expand(blocks, -1, -1))  # [blocks, C_out/blocks, rows]
        out = out.view(1, -1) if len(x) == 1 else out.flatten(0, 1).t().contiguous()
        return out if bias is None else out.add_(bias)

    return multiply


@functools.cache
def one_matrix_all_threads() -> bool:
    """True where a few rows times one matrix use all threads: with MKL on its maker's processors only."""
    if not torch.backends.mkl.is_available():
        return True
    information = Path("/proc/cpuinfo")
    text = information.read_text(errors="replace") if information.exists() else platform.processor()
    return "GenuineIntel" in text


class BlockDecoder:
    """A block for one token a sequence; keys and values go into its layer's cache."""

    def __init__(self, block: Block, rows: int):
        widen, self.activation, narrow = block.mlp
        layers = (block.attn.qkv, block.attn.proj, widen, narrow)
        self.qkv, self.proj, self.widen, self.narrow = (few_rows(layer, rows) for layer in layers)
        self.ln1, self.ln2, self.heads = block.ln1, block.ln2, block.attn.heads

    def __call__(self, x: Tensor, past: LayerCache, position: int) -> Tensor:
        """[B, C] -> [B, C]"""
        q, k, v = self.qkv(self.ln1(x)).view(len(x), 3, self.heads, -1).unbind(1)  # each [B, heads, d]
        x = x + self.proj(past.attend_one(q, k, v, position).reshape(x.shape))
        return x + self.narrow(self.activation(self.widen(self.ln2(x))))


class Decoder:
    """A transformer for one token a sequence: for `rows` sequences where that is 1 or 2, else for any more.

    It belongs to the weights it was made of: after a change of these, make a new one.
    """

    def __init__(self, prior: Transformer, rows: int):
        self.prior = prior
        self.blocks = [BlockDecoder(block, rows) for block in prior.blocks]
        self.head = few_rows(prior.head, rows)

    def __call__(self, tokens: Tensor, layers: list[LayerCache], position: int) -> Tensor:
        """Tokens [B] at `position` -> logits [B, K] of what follows; the cache's layers are written to."""
        x = self.prior.tok_emb(tokens) + self.prior.pos_emb[0, position]  # [B, C]
        for block, past in zip(self.blocks, layers, strict=True):
            x = block(x, past, position)
        return self.head(self.prior.ln_f(x))
