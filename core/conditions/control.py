"""Control, cell by cell: what an image of edges, depth or segments adds to the prior's stream (arXiv 2410.02705).

A control image gives one vector a cell for each of the prior's `control_layers`. It is added at the position that
predicts the cell, as strongly as a number, or a map with one value a cell, says. Without control the vectors are zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..geometry import Window
from ..prefix import Prefix
from ..priors.llama_blocks import MLP
from .base import Condition
from .dinov2 import PATCH, DINOv2, DINOv2Config

CELL = 16  # pixels of a control image a side, for each cell


@dataclass(frozen=True, kw_only=True)
class ControlARConfig:
    """What decides the shape of ControlAR's encoder.

    width: of the prior.
    layers: how many of its blocks are controlled.
    resize: how a control image is brought to 14 pixels a cell: "nearest" for Canny edges and segments, "bicubic" for
        what is soft.
    """

    width: int
    layers: int = 3
    resize: Literal["nearest", "bicubic"] = "bicubic"
    dino_width: int = 384
    dino_layers: int = 12
    dino_heads: int = 6

    def __post_init__(self):
        if self.resize not in ("nearest", "bicubic"):
            raise ValueError(f"resize {self.resize!r} is unknown; use nearest or bicubic")
        for name in ("width", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")

    @property
    def dino(self) -> DINOv2Config:
        """Of the vision transformer; ValueError for impossible values."""
        return DINOv2Config(width=self.dino_width, layers=self.dino_layers, heads=self.dino_heads)


class ControlAREncoder(nn.Module):
    """Control images to control vectors. Module names are those of the released files, but for DINOv2's own."""

    def __init__(self, config: ControlARConfig):
        super().__init__()
        self.config = config
        self.adapter = DINOv2(config.dino)
        self.adapter_mlp = MLP(config.dino_width, config.width)
        self.condition_mlp = MLP(config.width, config.width)
        self.condition_layers = nn.ModuleList(MLP(config.width, config.width) for _ in range(config.layers))

    def forward(self, images: Tensor) -> Tensor:
        """Control images [B, 3, h * 16, w * 16] in -1..1 -> [B, h, w, N, C]."""
        height, width = (side // CELL for side in images.shape[-2:])
        size = (height * PATCH, width * PATCH)
        if self.config.resize == "nearest":
            images = F.interpolate(images, size, mode="nearest")
        else:
            images = F.interpolate(images, size, mode="bicubic", align_corners=True)
        shared = self.condition_mlp(self.adapter_mlp(self.adapter(images)))  # [B, h * w, C]
        control = torch.stack([layer(shared) for layer in self.condition_layers], 2)  # [B, h * w, N, C]
        return control.unflatten(1, (height, width))


@dataclass(frozen=True)
class ControlledCondition:
    """Control over a condition.

    base: gives the prefix: text, a class, words, nothing.
    control: [B or 1, h, w, N, C], of all cells of the canvas.
    strength: [B or 1, h, w], 0 (none) to 1 (as trained).
    """

    base: Condition
    control: Tensor
    strength: Tensor

    @property
    def canvas_size(self) -> tuple[int, int]:
        """(h, w) in cells."""
        return self.control.shape[1], self.control.shape[2]

    @cached_property
    def scaled(self) -> Tensor:
        """Control times strength."""
        return self.control * self.strength[..., None, None].to(self.control)

    def prefix(self, window: Window) -> Prefix:
        """The condition's prefix, and the control of the window's cells."""
        rows, columns = window.rows(self.canvas_size[0]), window.columns(self.canvas_size[1])
        base, control = Prefix.of(self.base.prefix(window)), self.scaled[:, rows][:, :, columns].flatten(1, 2)
        count = max(len(base), len(control))
        return replace(base.expand(count), per_cell=control.expand(count, -1, -1, -1))

    @property
    def unconditional(self) -> ControlledCondition | None:
        """Without the prompt and without control, as the released models learned it: both were left out together."""
        base = self.base.unconditional
        return None if base is None else replace(self, base=base, strength=torch.zeros_like(self.strength))
