"""What a transformer is made of: attention and an MLP, each on the normalized stream and added to it."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .kv_cache import LayerCache, SharedPast


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x): the activation of OpenAI's models, near GELU but not near enough to be swapped."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


def norm_of(kind: Literal["layer", "rms"], width: int) -> nn.Module:
    """LayerNorm, or without mean and bias, as Image-GPT's."""
    return nn.LayerNorm(width) if kind == "layer" else nn.RMSNorm(width, eps=1e-5)


class Attention(nn.Module):
    """Multi-head self-attention (arXiv eq. 1); queries, keys and values from one product."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None, past: LayerCache | SharedPast | None, start: int) -> Tensor:
        """[B, T, C] -> [B, T, C].

        Args:
            mask: [T, start + T] bool, True where a token may look; None is causal from the start.
            past: this layer's keys and values up to `start`; those of x are appended.
        """
        batch, length, _ = x.shape
        # [B, T, 3C] -> [3, B, heads, T, d]
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if past is not None:
            k, v = past.append(k, v, start)
        attended = F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None)
        return self.proj(attended.transpose(1, 2).reshape(x.shape))  # [B, heads, T, d] -> [B, T, C]

    def forward_last(self, x: Tensor, mask: Tensor | None, past: LayerCache | None, start: int, last: int) -> Tensor:
        """`forward` of the last tokens alone: [B, T, C] -> [B, last, C]; `mask` is [last, start + T]."""
        batch, length, width = x.shape
        to_q, to_kv = self.qkv.weight.split([width, 2 * width])
        q_bias, kv_bias = self.qkv.bias.split([width, 2 * width])
        q = F.linear(x[:, -last:], to_q, q_bias).view(batch, last, self.heads, -1).transpose(1, 2)
        k, v = F.linear(x, to_kv, kv_bias).view(batch, length, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        if past is not None:
            k, v = past.append(k, v, start)
        attended = F.scaled_dot_product_attention(q, k, v, mask)
        return self.proj(attended.transpose(1, 2).reshape(batch, last, width))  # [B, heads, last, d] -> [B, last, C]


class Block(nn.Module):
    """Attention, then an MLP four times as wide, each on the normalized stream and added to it."""

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float = 0.0,
        norm: Literal["layer", "rms"] = "layer",
        activation: Literal["gelu", "quick-gelu"] = "gelu",
    ):
        super().__init__()
        self.ln1 = norm_of(norm, width)
        self.attn = Attention(width, heads)
        self.ln2 = norm_of(norm, width)
        bend = nn.GELU() if activation == "gelu" else QuickGELU()
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), bend, nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None, past: LayerCache | SharedPast | None, start: int) -> Tensor:
        """[B, T, C] -> [B, T, C]; arguments as `Attention.forward`."""
        x = x + self.dropout(self.attn(self.ln1(x), mask, past, start))
        return x + self.dropout(self.mlp(self.ln2(x)))

    def forward_last(self, x: Tensor, mask: Tensor | None, past: LayerCache | None, start: int, last: int) -> Tensor:
        """`forward` of the last tokens alone, without dropout: [B, T, C] -> [B, last, C]."""
        x = x[:, -last:] + self.attn.forward_last(self.ln1(x), mask, past, start, last)
        return x + self.mlp(self.ln2(x))
