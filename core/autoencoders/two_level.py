"""A first stage of two grids of codes, the wiring of VQ-VAE-2 (arXiv:1906.00446, section 3.1) with the VQGAN's blocks:

    image --Encoder--> features --Encoder--> top latents --Quantizer--> top codes, [h, w]
                          |                                                 |
                          +-- beside what a Decoder makes of the top codes --+--Quantizer--> bottom codes, [2h, 2w]
    top codes, twice as large, beside the bottom codes --Decoder--> image

Learned with squared error and moving averages it is VQ-VAE-2, with an adversary the two-level VQGAN of arXiv table 5.

A canvas stays one grid: a cell is a top code and the four bottom codes under it, and its number is written with them as
digits. A cell's code is those five, one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..storage.kinds import Kind
from .base import FirstStage
from .quantizers import Quantized, QuantizerLosses, VectorQuantizer, check_indices
from .vqgan import Decoder, Encoder, Reconstruction, VQGANConfig

PARTS = 5  # codes of a cell: the top one, then the bottom ones row by row
MAX_GRID_CODES = 2**12  # of a grid; five of them make a number of 60 bits


@dataclass(frozen=True, kw_only=True)
class TwoLevelConfig:
    """Everything that decides the shape; the defaults are arXiv table 5's, grids of 32x32 and 64x64 at 256 pixels.

    Raises ValueError for values that no model can be built from.
    """

    channels: int = 128  # these five as `VQGANConfig` has them, of the way to the bottom grid and back
    channel_mult: tuple[int, ...] = (1, 2, 4)
    blocks_per_level: int = 2
    latent_channels: int = 256
    patch_size: int = 1
    grid_codes: int = 512  # of each grid
    grid_code_dim: int = 64
    codebook: Literal["nearest", "ema"] = "ema"
    norm_groups: int = 32

    kind = "two-level"
    image_channels = 3
    normalize_codes = False

    def __post_init__(self):
        object.__setattr__(self, "channel_mult", tuple(self.channel_mult))
        if self.codebook not in ("nearest", "ema"):
            raise ValueError(f"codebook '{self.codebook}' is not for two grids; use nearest or ema")
        if not 1 <= self.grid_codes <= MAX_GRID_CODES or self.grid_code_dim < 1:
            raise ValueError(
                f"grid_codes is {self.grid_codes} and grid_code_dim {self.grid_code_dim}; choose 1 to {MAX_GRID_CODES} "
                "codes of at least 1 number"
            )
        _ = self.bottom, self.top  # say what does not fit

    @property
    def bottom(self) -> VQGANConfig:
        """From images to what is under the bottom grid, and back."""
        return VQGANConfig(
            channels=self.channels, channel_mult=self.channel_mult, blocks_per_level=self.blocks_per_level,
            attention_levels=(), latent_channels=self.latent_channels, patch_size=self.patch_size,
            norm_groups=self.norm_groups,
        )  # fmt: skip

    @property
    def top(self) -> VQGANConfig:
        """From there to the top grid, and back."""
        width = self.channels * self.channel_mult[-1]
        return VQGANConfig(
            image_channels=self.latent_channels, channels=width, channel_mult=(1, 1),
            blocks_per_level=self.blocks_per_level, attention_levels=(), latent_channels=self.latent_channels,
            norm_groups=self.norm_groups,
        )  # fmt: skip

    @property
    def pixel_channels(self) -> int:
        """Channels of the finest level, counted a pixel of the image."""
        return -(-max(self.channels, self.latent_channels) // self.patch_size**2)

    @property
    def stride(self) -> int:
        """Pixels a side of a cell: of the top grid."""
        return 2 * self.bottom.stride

    @property
    def codebook_size(self) -> int:
        """K: how many cells there may be."""
        return self.grid_codes**PARTS

    @property
    def code_dim(self) -> int:
        """D: of the five codes together."""
        return PARTS * self.grid_code_dim


class TwoLevelCodebook:
    """Cells by their numbers, from the codebooks of both grids."""

    def __init__(self, top: VectorQuantizer, bottom: VectorQuantizer):
        self.top, self.bottom, self.size = top, bottom, top.size**PARTS

    @property
    def codes(self) -> Tensor:
        """ValueError: they can't be listed."""
        raise ValueError(
            f"a cell of this first stage holds {PARTS} codes, {self.size} ways in all; choose a VQGAN of one grid for "
            "what goes through all codes"
        )

    def lookup(self, indices: Tensor) -> Tensor:
        """Numbers [B, h, w] int64 -> codes [B, 5 D, h, w]; ValueError for one outside 0..K-1."""
        check_indices(indices, self.size)
        top, bottom = digits_of(indices, self.top.size)
        return join(self.top.lookup(top), self.bottom.lookup(bottom))


class TwoLevel(nn.Module, FirstStage):
    """A first stage as `VQGAN` is one. `losses` matter to training only."""

    config: TwoLevelConfig

    def __init__(self, config: TwoLevelConfig, losses: QuantizerLosses = QuantizerLosses()):  # noqa: B008, frozen
        super().__init__()
        self.config = config
        latent, dim, ema = config.latent_channels, config.grid_code_dim, config.codebook == "ema"
        self.encoder, self.encoder_top = Encoder(config.bottom), Encoder(config.top)
        self.quant_conv_top = nn.Conv2d(latent, dim, 1)
        self.codebook_top = VectorQuantizer(config.grid_codes, dim, ema=ema, losses=losses)
        self.post_quant_conv_top = nn.Conv2d(dim, latent, 1)
        self.decoder_top = Decoder(config.top)
        self.quant_conv = nn.Conv2d(2 * latent, dim, 1)
        self.codebook_bottom = VectorQuantizer(config.grid_codes, dim, ema=ema, losses=losses)
        self.post_quant_conv = nn.Conv2d(2 * dim, latent, 1)
        self.decoder = Decoder(config.bottom)

    @property
    def codebook(self) -> TwoLevelCodebook:
        """Of the weights as they are."""
        return TwoLevelCodebook(self.codebook_top, self.codebook_bottom)

    @property
    def codebooks(self) -> tuple[VectorQuantizer, ...]:
        """Those that are learned: of the top grid, of the bottom grid."""
        return self.codebook_top, self.codebook_bottom

    @property
    def latent_width(self) -> int:
        """Channels of the latents: those of the top grid, then the features of the four cells under each."""
        return self.config.grid_code_dim + 4 * self.config.latent_channels

    def encode(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] in -1..1 -> latents [B, latent_width, h, w]; ValueError for what does not fit."""
        channels, height, width = image.shape[1:]
        stride = self.config.stride
        if channels != 3:
            raise ValueError(f"the picture has {channels} channels, this model takes 3; convert the picture first")
        if height % stride or width % stride or not height or not width:
            raise ValueError(
                f"the picture is {width}x{height} pixels, both sides must be multiples of {stride}; pad it first"
            )
        features = self.encoder(image.contiguous())  # [B, C, 2h, 2w]
        return join(self.quant_conv_top(self.encoder_top(features)), features)

    def quantize(self, latents: Tensor) -> Quantized:
        """The nearest codes of the top grid, and of the bottom grid given those."""
        (_, top), (_, bottom) = self.levels(latents, True)
        return self.joined(top, bottom)

    def levels(self, latents: Tensor, quantize: bool) -> tuple[tuple[Tensor, Quantized], tuple[Tensor, Quantized]]:
        """Latents of the top and the bottom grid, each with what it is quantized to, or with itself."""
        latents, features = split(latents, self.config.grid_code_dim)
        top = self.codebook_top(latents) if quantize else self.codebook_top.unquantized(latents)
        seen = self.decoder_top(self.post_quant_conv_top(top.codes))  # [B, C, 2h, 2w]
        below = self.quant_conv(torch.cat([seen, features], 1))
        bottom = self.codebook_bottom(below) if quantize else self.codebook_bottom.unquantized(below)
        return (latents, top), (below, bottom)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, 5 D, h, w] -> image [B, 3, H, W], about -1..1, not clamped."""
        top, bottom = split(codes.contiguous(), self.config.grid_code_dim)
        both = torch.cat([F.interpolate(top, scale_factor=2.0, mode="nearest"), bottom], 1)
        return self.decoder(self.post_quant_conv(both))

    def forward(self, image: Tensor, quantize: bool = True) -> Reconstruction:
        """As `VQGAN.forward`."""
        latents = self.encode(image)
        (above, top), (below, bottom) = self.levels(latents, quantize)
        quantized = self.joined(top, bottom)
        levels = (above, top.indices), (below, bottom.indices)
        return Reconstruction(self.decode(quantized.codes), quantized, latents, levels)

    def joined(self, top: Quantized, bottom: Quantized) -> Quantized:
        """Both grids as one."""
        indices = number_of(top.indices, bottom.indices, self.config.grid_codes)
        return Quantized(join(top.codes, bottom.codes), indices, top.loss + bottom.loss)


def join(top: Tensor, bottom: Tensor) -> Tensor:
    """[B, C, h, w] and [B, D, 2h, 2w] -> [B, C + 4 D, h, w]"""
    batch, depth, height, width = bottom.shape
    four = bottom.view(batch, depth, height // 2, 2, width // 2, 2).permute(0, 3, 5, 1, 2, 4)  # [B, 2, 2, D, h, w]
    return torch.cat([top, four.reshape(batch, 4 * depth, height // 2, width // 2)], 1)


def split(joined: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """What `join` joined, the top of so many channels."""
    top, four = joined[:, :channels], joined[:, channels:]
    batch, depth, height, width = four.shape
    four = four.view(batch, 2, 2, depth // 4, height, width).permute(0, 3, 4, 1, 5, 2)  # [B, D, h, 2, w, 2]
    return top, four.reshape(batch, depth // 4, 2 * height, 2 * width)


def number_of(top: Tensor, bottom: Tensor, codes: int) -> Tensor:
    """Indices [B, h, w] and [B, 2h, 2w] as one number a cell, [B, h, w]: digits to the base `codes`."""
    parts = join(top.unsqueeze(1), bottom.unsqueeze(1))  # [B, 5, h, w]
    places = codes ** torch.arange(PARTS, device=top.device)
    return (parts * places.view(1, PARTS, 1, 1)).sum(1)


def digits_of(numbers: Tensor, codes: int) -> tuple[Tensor, Tensor]:
    """What `number_of` made a number of."""
    places = codes ** torch.arange(PARTS, device=numbers.device)
    parts = numbers.unsqueeze(1) // places.view(1, PARTS, 1, 1) % codes
    top, bottom = split(parts, 1)
    return top.squeeze(1), bottom.squeeze(1)


KIND: Kind[FirstStage] = Kind("two-level", TwoLevel, TwoLevelConfig)
