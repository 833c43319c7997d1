"""Control by a sketch: lines and coarse colors, either of which may be left out anywhere.

lines, presence of lines [B, 2, 16h, 16w] --convolutions--+
                                                          +--> one vector a cell --> one for each control layer
colors, presence of colors [B, 4, h/2, w/2] --convolutions-+
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FOLD = 4  # pixels a side that become channels before the first convolution


@dataclass(frozen=True, kw_only=True)
class SketchConfig:
    """width: of the prior. layers: how many of its blocks are controlled. ValueError for impossible values."""

    width: int = 384
    layers: int = 3

    def __post_init__(self):
        for name in ("width", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")


class SketchEncoder(nn.Module):
    """Lines and colors to control vectors."""

    def __init__(self, config: SketchConfig):
        super().__init__()
        self.config = config
        self.edges = nn.Sequential(
            nn.Conv2d(2 * FOLD**2, 48, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(48, 96, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(96, 192, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(192, 192, 3, padding=1),
            nn.SiLU(),
        )
        self.colors = nn.Sequential(
            nn.Conv2d(4, 96, 3, padding=1), nn.SiLU(), nn.Conv2d(96, 96, 3, padding=1), nn.SiLU()
        )
        self.out = nn.Conv2d(192 + 96, config.width, 1)
        self.control_layers = nn.ModuleList(
            nn.Linear(config.width, config.width, bias=False) for _ in range(config.layers)
        )

    def forward(self, edges: Tensor, colors: Tensor) -> Tensor:
        """Lines and colors to control.

        Args:
            edges: [B, 2, 16h, 16w]: lines 0..1, and where they are given, 0 or 1.
            colors: [B, 4, ceil(h/2), ceil(w/2)]: mean colors in -1..1, 0 where not given, and where they are given.
        Returns:
            [B, h, w, N, C].
        """
        lines = self.edges(F.pixel_unshuffle(edges, FOLD))  # [B, 192, h, w]
        height, width = lines.shape[2:]
        spots = F.interpolate(self.colors(colors), scale_factor=2.0, mode="nearest")[:, :, :height, :width]
        shared = self.out(torch.cat([lines, spots], 1)).movedim(1, -1)  # [B, h, w, C]
        return torch.stack([layer(shared) for layer in self.control_layers], 3)
