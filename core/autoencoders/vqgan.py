"""The VQGAN: encoder, codebook, decoder (paper section 3.1, arXiv eq. 2 and 3).

    image --Encoder--> latents z --Quantizer--> codes --Decoder--> image

Module names equal those of the released checkpoints, so their weights load without renaming.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from ..modules import Stack
from ..storage.kinds import Kind
from .base import FirstStage
from .blocks import Downsample, Level, Middle, Upsample, group_norm
from .quantizers import GumbelQuantizer, Quantized, QuantizerLosses, VectorQuantizer

MAX_LEVELS, MAX_BLOCKS = 16, 64  # a file that asks for millions would never finish


@dataclass(frozen=True, kw_only=True)
class VQGANConfig:
    """Everything that decides the shape of a VQGAN. The defaults are the released f16, K = 1024 model.

    Raises ValueError for values that no model can be built from.
    """

    image_channels: int = 3
    channels: int = 128  # of the full resolution; the levels multiply it
    channel_mult: tuple[int, ...] = (1, 1, 2, 2, 4)  # one level each, halving the resolution between
    blocks_per_level: int = 2
    attention_levels: tuple[int, ...] = (4,)  # indices into channel_mult
    latent_channels: int = 256  # between encoder and the 1x1 convolution
    patch_size: int = 1  # pixel-unshuffle factor before the first convolution; 1 in every released model
    codebook_size: int = 1024  # K
    code_dim: int = 256  # D
    codebook: Literal["nearest", "ema", "gumbel", "product"] = "nearest"  # "product": IBQ's, see VectorQuantizer
    normalize_codes: bool = False  # compare directions only: latents and codes on the unit sphere
    norm_groups: int = 32  # of every GroupNorm; 32 in every released model

    kind = "vqgan"

    def __post_init__(self):
        for name in ("channel_mult", "attention_levels"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.norm_groups < 1:
            raise ValueError(f"norm_groups is {self.norm_groups}; it must be at least 1, and 32 for released models")
        if not self.channel_mult:
            raise ValueError("channel_mult is empty; name a factor for each level, such as [1, 2, 4]")
        widths = [self.channels * m for m in self.channel_mult]
        if any(width % self.norm_groups or width < 1 for width in widths):
            raise ValueError(
                f"channels {self.channels} times channel_mult {self.channel_mult} must be multiples of "
                f"{self.norm_groups} (norm_groups); choose channels "
                f"{', '.join(str(self.norm_groups * n) for n in (1, 2, 3))}, ..."
            )
        if any(level not in range(len(self.channel_mult)) for level in self.attention_levels):
            raise ValueError(
                f"attention_levels {self.attention_levels} name a level that does not exist; "
                f"use 0 to {len(self.channel_mult) - 1}"
            )
        if len(self.channel_mult) > MAX_LEVELS or self.blocks_per_level > MAX_BLOCKS:
            raise ValueError(
                f"{len(self.channel_mult)} levels of {self.blocks_per_level} blocks are too many; choose at most "
                f"{MAX_LEVELS} of {MAX_BLOCKS}"
            )
        if self.codebook not in ("nearest", "ema", "gumbel", "product"):
            raise ValueError(f"codebook '{self.codebook}' is unknown; use nearest, ema, gumbel or product")
        positive = ("image_channels", "blocks_per_level", "latent_channels", "patch_size", "codebook_size", "code_dim")
        for name in positive:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")

    @property
    def stride(self) -> int:
        """Pixels per cell side."""
        return self.patch_size * 2 ** (len(self.channel_mult) - 1)

    @property
    def pixel_channels(self) -> int:
        """Channels at full resolution, counted a pixel of the image."""
        return self.channels // self.patch_size**2


class Encoder(nn.Module):
    """[B, C, H, W] -> [B, latent_channels, H/stride, W/stride]"""

    def __init__(self, config: VQGANConfig):
        super().__init__()
        widths = [config.channels * m for m in config.channel_mult]
        self.patch_size = config.patch_size
        self.conv_in = nn.Conv2d(config.image_channels * config.patch_size**2, config.channels, 3, padding=1)
        self.down: Stack[Level] = Stack()
        previous = config.channels
        for i, width in enumerate(widths):
            level = Level(previous, width, config.blocks_per_level, i in config.attention_levels, config.norm_groups)
            if i < len(widths) - 1:
                level.downsample = Downsample(width)
            self.down.append(level)
            previous = width
        self.mid = Middle(previous, config.norm_groups)
        self.norm_out = group_norm(previous, config.norm_groups)
        self.conv_out = nn.Conv2d(previous, config.latent_channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.conv_in(F.pixel_unshuffle(image, self.patch_size))
        for level in self.down:
            x = level(x)
        x = self.mid(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Decoder(nn.Module):
    """[B, latent_channels, h, w] -> [B, C, h*stride, w*stride]; not clamped."""

    def __init__(self, config: VQGANConfig):
        super().__init__()
        widths = [config.channels * m for m in config.channel_mult]
        self.patch_size = config.patch_size
        self.conv_in = nn.Conv2d(config.latent_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], config.norm_groups)
        levels = []
        previous = widths[-1]
        for i, width in reversed(list(enumerate(widths))):
            level = Level(
                previous, width, config.blocks_per_level + 1, i in config.attention_levels, config.norm_groups
            )
            if i > 0:
                level.upsample = Upsample(width)
            levels.insert(0, level)  # indexed by level: up.0 is the full resolution and runs last
            previous = width
        self.up = Stack[Level](levels)
        self.norm_out = group_norm(previous, config.norm_groups)
        self.conv_out = nn.Conv2d(previous, config.image_channels * config.patch_size**2, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.mid(self.conv_in(latents))
        for level in reversed(self.up):
            x = level(x)
        return F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(x))), self.patch_size)


class Reconstruction(NamedTuple):
    """What `VQGAN.forward` returns."""

    image: Tensor  # [B, C, H, W], about -1..1, not clamped
    quantized: Quantized
    latents: Tensor  # [B, D, h, w], before quantization
    levels: tuple[tuple[Tensor, Tensor], ...]  # of each codebook: latents [B, d, h', w'] and indices [B, h', w']


def build_quantizer(config: VQGANConfig, losses: QuantizerLosses) -> VectorQuantizer | GumbelQuantizer:
    """The quantizer that a config names."""
    size, dim = config.codebook_size, config.code_dim
    if config.codebook == "gumbel":
        return GumbelQuantizer(size, dim, config.latent_channels, losses=losses)
    kind, normalize = config.codebook, config.normalize_codes
    return VectorQuantizer(size, dim, normalize=normalize, product=kind == "product", ema=kind == "ema", losses=losses)


class VQGAN(nn.Module, FirstStage):
    """Images to codes and back.

    Height and width of images must be multiples of `config.stride`; `images.resize.pad_to_multiple`
    makes them so. `losses` matter to training only.
    """

    config: VQGANConfig
    codebook: VectorQuantizer | GumbelQuantizer

    def __init__(self, config: VQGANConfig, losses: QuantizerLosses = QuantizerLosses()):  # noqa: B008, frozen
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.codebook = build_quantizer(config, losses)
        codebook_input = config.latent_channels if config.codebook == "gumbel" else config.code_dim
        self.quant_conv = nn.Conv2d(config.latent_channels, codebook_input, 1)
        self.post_quant_conv = nn.Conv2d(config.code_dim, config.latent_channels, 1)

    @property
    def codebooks(self) -> tuple[VectorQuantizer | GumbelQuantizer, ...]:
        """Those that are learned: one."""
        return (self.codebook,)

    @property
    def latent_width(self) -> int:
        """Channels of the latents, before quantization."""
        return self.quant_conv.out_channels

    def encode(self, image: Tensor) -> Tensor:
        """Latents z = E(x): [B, C, H, W] in -1..1 -> [B, D, h, w].

        Raises:
            ValueError: wrong number of channels, or a side that is not a multiple of the stride.
        """
        self.check_image_size(image)
        # contiguous: torch's GroupNorm on the CPU is twenty times less exact on channels-last images
        return self.quant_conv(self.encoder(image.contiguous()))

    def check_image_size(self, image: Tensor) -> None:
        """Raise ValueError for a wrong number of channels, or a side that is not a multiple of the stride."""
        channels, height, width = image.shape[1:]
        if channels != self.config.image_channels:
            raise ValueError(
                f"the picture has {channels} channels, this VQGAN takes {self.config.image_channels}; "
                "convert the picture first"
            )
        stride = self.config.stride
        if height % stride or width % stride or not height or not width:
            raise ValueError(
                f"the picture is {width}x{height} pixels, both sides must be multiples of {stride}; pad it first"
            )

    def quantize(self, latents: Tensor) -> Quantized:
        """Replace latents by codes (arXiv eq. 2): [B, D, h, w] -> codes, indices, loss."""
        return self.codebook(latents)

    def decode(self, codes: Tensor) -> Tensor:
        """Image G(z_q) (arXiv eq. 3): [B, D, h, w] -> [B, C, H, W], about -1..1, not clamped."""
        return self.decoder(self.post_quant_conv(codes.contiguous()))  # as in encode

    def forward(self, image: Tensor, quantize: bool = True) -> Reconstruction:
        """[B, C, H, W] in -1..1 -> reconstruction, what it was quantized to, and the latents before.

        Args:
            quantize: False decodes the latents themselves, as at the start of training, before the codes are useful.
        """
        latents = self.encode(image)
        if quantize or isinstance(self.codebook, GumbelQuantizer):
            quantized = self.quantize(latents)
        else:
            quantized = self.codebook.unquantized(latents)
        return Reconstruction(self.decode(quantized.codes), quantized, latents, ((latents, quantized.indices),))


KIND: Kind[FirstStage] = Kind("vqgan", VQGAN, VQGANConfig)
