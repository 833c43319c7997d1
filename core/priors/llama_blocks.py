"""Layers of Llama-style transformers: RMSNorm, attention with rotary positions, SwiGLU, and what embeds a prefix."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .rotary import rotate


class RMSNorm(nn.Module):
    """Each vector divided by its root mean square, then scaled (arXiv 1910.07467)."""

    def __init__(self, width: int, eps: float = 1e-5):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).type_as(x) * self.weight


class Attention(nn.Module):
    """Multi-head self-attention whose queries and keys are turned by their cell's place."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.wqkv = nn.Linear(width, 3 * width, bias=False)
        self.wo = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, rotation: Tensor, mask: Tensor | None, past: Tensor | None, start: int) -> Tensor:
        """[B, T, C] -> [B, T, C].

        Args:
            rotation: [T, d/2] complex, of these positions.
            mask: [T, start + T], or with leading dimensions, bool: True where a token may look; None is causal.
            past: this layer's keys and values, [2, B, heads, room, d]; those of x are written there from `start` on.
        """
        batch, length, _ = x.shape
        # [B, T, 3C] -> [3, B, heads, T, d]
        q, k, v = self.wqkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, rotation), rotate(k, rotation)
        if past is not None:
            end = start + length
            past[0, :, :, start:end], past[1, :, :, start:end] = k, v
            k, v = past[:, :, :, :end]
        attended = F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None and length > 1)
        return self.wo(attended.transpose(1, 2).reshape(x.shape))  # [B, heads, T, d] -> [B, T, C]


class FeedForward(nn.Module):
    """SwiGLU (arXiv 2002.05202)."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.w1 = nn.Linear(width, hidden, bias=False)
        self.w3 = nn.Linear(width, hidden, bias=False)
        self.w2 = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    """Attention, then SwiGLU, each on the normalized stream and added to it."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.attention_norm = RMSNorm(width)
        self.attention = Attention(width, heads)
        self.ffn_norm = RMSNorm(width)
        self.feed_forward = FeedForward(width, hidden)

    def forward(self, x: Tensor, rotation: Tensor, mask: Tensor | None, past: Tensor | None, start: int) -> Tensor:
        """[B, T, C] -> [B, T, C]; arguments as `Attention.forward`."""
        x = x + self.attention(self.attention_norm(x), rotation, mask, past, start)
        return x + self.feed_forward(self.ffn_norm(x))


class MLP(nn.Module):
    """Two linear layers without biases around a GELU, in its tanh approximation."""

    def __init__(self, width_in: int, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width_in, width, bias=False)
        self.fc2 = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class FeaturePrefix(nn.Module):
    """Text features as prefix; `uncond_embedding` is what stands for no text."""

    uncond_embedding: Tensor  # [P, F]

    def __init__(self, length: int, feature_width: int, width: int):
        super().__init__()
        self.cap_proj = MLP(feature_width, width)
        self.register_buffer("uncond_embedding", torch.randn(length, feature_width) / feature_width**0.5)

    def forward(self, features: Tensor) -> Tensor:
        """[B, P, F] -> [B, P, C]"""
        return self.cap_proj(features)
