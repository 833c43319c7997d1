"""DINOv2 (arXiv 2304.07193), the vision transformer through which ControlAR looks at its control images.

image --patches of 14 x 14 pixels + positions--> blocks --LayerNorm--> one feature a patch
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH = 14  # pixels a side


@dataclass(frozen=True, kw_only=True)
class DINOv2Config:
    """The defaults are the small model; the base one has width 768 and 12 heads. ValueError for impossible values."""

    width: int = 384
    layers: int = 12
    heads: int = 6
    grid: int = 37  # cells a side of the learned positions

    def __post_init__(self):
        for name in ("width", "layers", "heads", "grid"):
            if not 1 <= getattr(self, name) <= 10_000:
                raise ValueError(f"{name} is {getattr(self, name)}; choose 1 to 10000")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide by heads {self.heads}; choose a multiple")


class Block(nn.Module):
    """Attention, then an MLP four times as wide, each on the normalized stream and added to it channel by channel as
    `scale1` and `scale2` say."""

    def __init__(self, config: DINOv2Config):
        super().__init__()
        width, self.heads = config.width, config.heads
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.query, self.key, self.value, self.proj = (nn.Linear(width, width) for _ in range(4))
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale1, self.scale2 = (nn.Parameter(torch.ones(width)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, C]"""
        normed = self.norm1(x)
        q, k, v = (
            layer(normed).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, heads, T, d]
            for layer in (self.query, self.key, self.value)
        )
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # [B, T, C]
        x = x + self.scale1 * self.proj(attended)
        return x + self.scale2 * self.fc2(F.gelu(self.fc1(self.norm2(x))))


class DINOv2(nn.Module):
    """Images to one feature a patch."""

    def __init__(self, config: DINOv2Config):
        super().__init__()
        self.config = config
        self.patch_embedding = nn.Conv2d(3, config.width, PATCH, PATCH)
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.positions = nn.Parameter(torch.zeros(1, 1 + config.grid**2, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, eps=1e-6)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, h * 14, w * 14] -> features [B, h * w, C], row by row."""
        patches = self.patch_embedding(images)  # [B, C, h, w]
        height, width = patches.shape[2:]
        x = patches.flatten(2).transpose(1, 2) + self._grid_positions(height, width)  # [B, h * w, C]
        first = (self.class_token + self.positions[:, :1]).expand(len(x), -1, -1)
        x = torch.cat([first, x], 1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 1:]

    def _grid_positions(self, height: int, width: int) -> Tensor:
        """The learned positions, resized to height x width patches in float32: [1, h * w, C]."""
        learned = self.positions[:, 1:]
        grid = learned.float().transpose(1, 2).unflatten(2, (self.config.grid, -1))  # [1, C, grid, grid]
        if (height, width) != grid.shape[2:]:
            grid = F.interpolate(grid, (height, width), mode="bicubic", align_corners=False)
        return grid.flatten(2).transpose(1, 2).to(learned.dtype)
