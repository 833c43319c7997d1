"""The first-stage protocol: images to a grid of codes and back, as everything beyond training uses it.

A first stage is written `class Name(nn.Module, FirstStage)`, sets `config` and `codebook`, and ends its file with
`KIND`, so that model files can hold it (`vqgan_file.py`).

An image of h * stride by w * stride pixels is a grid of h by w cells, each with one of K codes. `config` says how large
everything is; `codebook` gives the codes of indices. No gradients are needed; losses are the business of training.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from .precision import exact_float32
from .quantizers import Quantized


class StageConfig(Protocol):
    """The sizes of a first stage; a frozen dataclass.

    codebook, normalize_codes: how codes are found, by which files tell equal codebooks apart; see `VectorQuantizer`.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def codebook(self) -> str:
        """How the code of a latent is chosen: "nearest", "product", "gumbel"."""
        ...

    @property
    def normalize_codes(self) -> bool:
        """Whether latents and codes are compared by direction only."""
        ...

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

    @property
    def pixel_channels(self) -> int:
        """Channels of its widest layers, counted a pixel of the image; an estimate of memory asks for it."""
        ...


class Codebook(Protocol):
    """The codes by their indices."""

    @property
    def codes(self) -> Tensor:
        """[K, D]"""
        ...

    def lookup(self, indices: Tensor) -> Tensor:
        """Indices [B, h, w] int64 -> codes [B, D, h, w]; ValueError for an index outside 0..K-1."""
        ...


class FirstStage(Protocol):
    """Images to codes and back; an `nn.Module`."""

    config: StageConfig
    codebook: Codebook

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.parameters()).dtype

    @abstractmethod
    def parameters(self) -> Iterator[nn.Parameter]:
        """Its weights."""
        ...

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Its weights by name."""
        ...

    @property
    @abstractmethod
    def latent_width(self) -> int:
        """Channels of the latents, before quantization."""
        ...

    @abstractmethod
    def encode(self, image: Tensor) -> Tensor:
        """[B, C, H, W] in -1..1 -> latents [B, latent_width, h, w]; ValueError for channels or sides that don't fit."""
        ...

    @abstractmethod
    def quantize(self, latents: Tensor) -> Quantized:
        """Latents -> the nearest codes and their indices."""
        ...

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, D, h, w] -> images [B, C, H, W], about -1..1, not clamped."""
        ...

    def encode_indices(self, image: Tensor) -> Tensor:
        """[B, C, H, W] in -1..1 -> indices [B, h, w] int64, the same ones inside autocast: priors learn them, and are
        given them in use."""
        with exact_float32(image.device):
            return self.quantize(self.encode(image)).indices

    def decode_indices(self, indices: Tensor) -> Tensor:
        """Indices [B, h, w] int64 in 0..K-1 -> images [B, C, H, W], not clamped."""
        return self.decode(self.codebook.lookup(indices))
