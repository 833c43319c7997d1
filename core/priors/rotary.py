"""Rotary positions on a grid (arXiv 2104.09864): what turns a query or a key by the row and the column of its cell."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


@functools.lru_cache(maxsize=8)
def grid_rotations(side: int, head_width: int, base: float, device: torch.device) -> Tensor:
    """Rotary factors of side x side cells, [cells, d/2] complex64: a quarter of a head turns with the row, a quarter
    with the column, two neighboring numbers together."""
    half = head_width // 2
    frequencies = 1 / base ** (torch.arange(0, half, 2, dtype=torch.float32) / half)  # [d/4]
    angles = torch.outer(torch.arange(side, dtype=torch.float32), frequencies)  # [side, d/4]
    both = torch.cat([angles.repeat_interleave(side, 0), angles.repeat(side, 1)], 1)  # [cells, d/2]
    return torch.polar(torch.ones_like(both), both).to(device)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn pairs of neighboring numbers of x [B, heads, T, d] by `rotation` [T, d/2] complex, in float32."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotation).flatten(-2).type_as(x)
