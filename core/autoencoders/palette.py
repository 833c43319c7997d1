"""A palette as a first stage: each cell is a mean color, its code the nearest one (Image-GPT, Chen et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..storage.kinds import Kind
from .base import FirstStage
from .nearest import as_rows, nearest_code
from .quantizers import Quantized, VectorQuantizer

LEVELS = 32  # of a color's parts between 0 and 1 that look different


@dataclass(frozen=True, kw_only=True)
class PaletteConfig:
    """How many colors there are, 512 in the published models, and how many pixels a side have one in common."""

    codebook_size: int = 512
    stride: int = 1

    kind = "palette"
    image_channels = pixel_channels = 3
    code_dim = 3
    normalize_codes = False
    codebook = "nearest"

    def __post_init__(self):
        for name in ("codebook_size", "stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")


class Palette(nn.Module, FirstStage):
    """Colors in -1..1. A first stage as `VQGAN` is one, for images of three channels and any size."""

    config: PaletteConfig
    codebook: VectorQuantizer

    def __init__(self, config: PaletteConfig):
        super().__init__()
        self.config = config
        self.encoder = self.decoder = nn.Identity()  # a color is its own latent
        self.codebook = VectorQuantizer(config.codebook_size, 3)

    @classmethod
    def of_colors(cls, colors: Tensor, stride: int = 1) -> Palette:
        """A palette of colors [K, 3] in -1..1."""
        palette = cls(PaletteConfig(codebook_size=len(colors), stride=stride))
        palette.codebook.embedding.weight.data.copy_(colors)
        return palette.eval().requires_grad_(False)

    @classmethod
    def of_images(cls, images: Tensor, colors: int = 512, rounds: int = 20, seed: int = 0, stride: int = 1) -> Palette:
        """The palette that k-means finds in the cells of images [N, 3, H, W] in -1..1. Colors that look alike count
        once, or a white ground would take half of the palette; the most frequent one, a ground's, is kept as it is."""
        palette = cls(PaletteConfig(codebook_size=colors, stride=stride))
        rows = as_rows(palette.encode(images))
        distinct, counts = ((rows * LEVELS).round() / LEVELS).unique(dim=0, return_counts=True)
        palette.codebook.init_kmeans(distinct, torch.Generator().manual_seed(seed), rounds)
        ground = distinct[counts.argmax()][None]
        palette.codebook.embedding.weight.data[nearest_code(ground, palette.codebook.codes)] = ground
        return palette.eval().requires_grad_(False)

    @property
    def latent_width(self) -> int:
        """Numbers a cell: red, green and blue."""
        return 3

    def encode(self, image: Tensor) -> Tensor:
        """Mean colors [B, 3, H/stride, W/stride]; ValueError for another number of channels, or sides that are no
        multiples of the stride."""
        if image.shape[1] != 3:
            raise ValueError(f"the picture has {image.shape[1]} channels, a palette takes 3; convert the picture first")
        stride, (height, width) = self.config.stride, image.shape[2:]
        if height % stride or width % stride:
            raise ValueError(f"the picture is {width}x{height} pixels, and its sides must be multiples of {stride}")
        return F.avg_pool2d(image, stride)

    def quantize(self, latents: Tensor) -> Quantized:
        """The nearest color of each pixel."""
        return self.codebook(latents)

    def decode(self, codes: Tensor) -> Tensor:
        """A square of each color [B, 3, h, w], `stride` pixels a side."""
        return F.interpolate(codes, scale_factor=float(self.config.stride))


KIND: Kind[FirstStage] = Kind("palette", Palette, PaletteConfig)
