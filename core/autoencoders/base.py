"""What everything beyond training may ask of a first stage, whatever network it is: images to a grid of codes and back.

An image of h * stride by w * stride pixels is a grid of h by w cells, each with one of K codes. `config` says how large
everything is; `codebook` gives the codes of indices. No gradients are needed; losses are the business of training.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .quantizers import Quantized


class StageConfig(Protocol):
    """The sizes of a first stage."""

    @property
    def stride(self) -> int:
        """Pixels a side of a cell."""
        ...

    @property
    def codebook_size(self) -> int:
        """K, the number of codes."""
        ...

    @property
    def code_dim(self) -> int:
        """D, the numbers of a code."""
        ...

    @property
    def image_channels(self) -> int:
        """C: 3 for color, 1 for lines and depth, one a label for segmentation."""
        ...


class Codebook(Protocol):
    """The codes by their indices."""

    def lookup(self, indices: Tensor) -> Tensor:
        """Indices [B, h, w] int64 -> codes [B, D, h, w]; ValueError for an index outside 0..K-1."""
        ...


class FirstStage(Protocol):
    """Images to codes and back; an `nn.Module`."""

    @property
    def config(self) -> StageConfig:
        """Its sizes."""
        ...

    @property
    def codebook(self) -> Codebook:
        """Its codes."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        ...

    @property
    def latent_width(self) -> int:
        """Channels of the latents, before quantization."""
        ...

    def encode(self, image: Tensor) -> Tensor:
        """[B, C, H, W] in -1..1 -> latents [B, latent_width, h, w]; ValueError for channels or sides that don't fit."""
        ...

    def quantize(self, latents: Tensor) -> Quantized:
        """Latents -> the nearest codes and their indices."""
        ...

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, D, h, w] -> images [B, C, H, W], about -1..1, not clamped."""
        ...

    def encode_indices(self, image: Tensor) -> Tensor:
        """[B, C, H, W] in -1..1 -> indices [B, h, w] int64, the same inside autocast."""
        ...

    def decode_indices(self, indices: Tensor) -> Tensor:
        """Indices [B, h, w] int64 in 0..K-1 -> images [B, C, H, W], not clamped."""
        ...
