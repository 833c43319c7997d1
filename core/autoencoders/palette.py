"""A palette as a first stage: each pixel is a cell, its code the nearest color (Image-GPT, Chen et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..storage.kinds import Kind
from .base import FirstStage
from .nearest import as_rows
from .quantizers import Quantized, VectorQuantizer


@dataclass(frozen=True, kw_only=True)
class PaletteConfig:
    """How many colors there are; 512 in the published models."""

    codebook_size: int = 512

    kind = "palette"
    image_channels = pixel_channels = 3
    code_dim = 3
    stride = 1
    normalize_codes = False
    codebook = "nearest"

    def __post_init__(self):
        if self.codebook_size < 1:
            raise ValueError(f"codebook_size is {self.codebook_size}; it must be at least 1")


class Palette(nn.Module, FirstStage):
    """Colors in -1..1. A first stage as `VQGAN` is one, for images of three channels and any size."""

    config: PaletteConfig
    codebook: VectorQuantizer

    def __init__(self, config: PaletteConfig):
        super().__init__()
        self.config = config
        self.encoder = self.decoder = nn.Identity()  # a pixel is its own latent
        self.codebook = VectorQuantizer(config.codebook_size, 3)

    @classmethod
    def of_colors(cls, colors: Tensor) -> Palette:
        """A palette of colors [K, 3] in -1..1."""
        palette = cls(PaletteConfig(codebook_size=len(colors)))
        palette.codebook.embedding.weight.data.copy_(colors)
        return palette.eval().requires_grad_(False)

    @classmethod
    def of_images(cls, images: Tensor, colors: int = 512, rounds: int = 20, seed: int = 0) -> Palette:
        """The palette that k-means finds in the pixels of images [N, 3, H, W] in -1..1."""
        palette = cls(PaletteConfig(codebook_size=colors))
        palette.codebook.init_kmeans(as_rows(images), torch.Generator().manual_seed(seed), rounds)
        return palette.eval().requires_grad_(False)

    @property
    def latent_width(self) -> int:
        """Numbers a cell: red, green and blue."""
        return 3

    def encode(self, image: Tensor) -> Tensor:
        """The image itself, [B, 3, H, W]; ValueError for another number of channels."""
        if image.shape[1] != 3:
            raise ValueError(f"the picture has {image.shape[1]} channels, a palette takes 3; convert the picture first")
        return image

    def quantize(self, latents: Tensor) -> Quantized:
        """The nearest color of each pixel."""
        return self.codebook(latents)

    def decode(self, codes: Tensor) -> Tensor:
        """Colors [B, 3, H, W] as they are, in memory of their own."""
        return codes.clone()


KIND: Kind[FirstStage] = Kind("palette", Palette, PaletteConfig)
