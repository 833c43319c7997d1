"""DALL-E's discrete VAE (Ramesh et al. 2021, appendix A): f8, 8192 codes, a row of arXiv table 5.

    image --Encoder--> logits over the codes of each cell --largest--> code --Decoder--> mean of each pixel

Module names are those of the released files. Pixels are 0..1, drawn in to 0.1..0.9, where a Laplace distribution of
their logit is learned.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..storage.kinds import Kind
from .base import FirstStage
from .quantizers import Quantized, check_indices
from .vqgan import Reconstruction

GROUPS = 4
MARGIN = 0.1  # of 0..1 at either end


@dataclass(frozen=True, kw_only=True)
class DVAEConfig:
    """What decides the shape; the defaults are the released model. ValueError for impossible values."""

    hidden: int = 256  # of the finest group; the others are 2, 4 and 8 times as wide
    blocks_per_group: int = 2
    codebook_size: int = 8192
    code_dim: int = 128

    kind = "dvae"
    image_channels = 3
    stride = 2 ** (GROUPS - 1)
    normalize_codes = False
    codebook = "nearest"

    @property
    def pixel_channels(self) -> int:
        """Channels of the finest group."""
        return self.hidden

    def __post_init__(self):
        for name in ("hidden", "blocks_per_group", "codebook_size", "code_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.hidden % 4:
            raise ValueError(f"hidden is {self.hidden}; choose a multiple of 4")


class Conv(nn.Module):
    """A convolution that keeps the size, its weights under the released names."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int):
        super().__init__()
        self.w = nn.Parameter(torch.empty(channels_out, channels_in, kernel, kernel))
        nn.init.normal_(self.w, std=(channels_in * kernel**2) ** -0.5)
        self.b = nn.Parameter(torch.zeros(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.w, self.b, padding=(self.w.shape[-1] - 1) // 2)


class Block(nn.Module):
    """Four convolutions, each after a ReLU, added to the input with a small gain. [B, C, h, w] -> [B, C', h, w]"""

    def __init__(self, channels_in: int, channels_out: int, kernels: tuple[int, ...], gain: float):
        super().__init__()
        self.gain, hidden = gain, channels_out // 4
        self.id_path = Conv(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()
        widths = [channels_in, hidden, hidden, hidden, channels_out]
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for i, kernel in enumerate(kernels):
            layers[f"relu_{i + 1}"] = nn.ReLU()
            layers[f"conv_{i + 1}"] = Conv(widths[i], widths[i + 1], kernel)
        self.res_path = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.id_path(x) + self.gain * self.res_path(x)


class Tower(nn.Module):
    """Groups of blocks with a change of resolution after each but the last, between two convolutions."""

    def __init__(
        self, enter: Conv, widths: list[int], blocks: int, kernels: tuple[int, ...], resize: nn.Module, leave: int
    ):
        super().__init__()
        gain, previous = 1 / (GROUPS * blocks) ** 2, enter.w.shape[0]
        parts: OrderedDict[str, nn.Module] = OrderedDict(input=enter)
        for number, width in enumerate(widths, 1):
            group: OrderedDict[str, nn.Module] = OrderedDict()
            for i in range(blocks):
                group[f"block_{i + 1}"] = Block(width if i else previous, width, kernels, gain)
            if number < GROUPS:
                group["resize"] = resize
            parts[f"group_{number}"], previous = nn.Sequential(group), width
        parts["output"] = nn.Sequential(OrderedDict(relu=nn.ReLU(), conv=Conv(previous, leave, 1)))
        self.blocks = nn.Sequential(parts)

    @property
    def enter(self) -> Conv:
        """The first layer."""
        first = self.blocks[0]
        assert isinstance(first, Conv)
        return first

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


class DVAECodebook(nn.Module):
    """Codes are what the decoder's first layer makes of them, a column of its weights."""

    def __init__(self, decoder: Tower):
        super().__init__()
        self.decoder = [decoder]  # not a module of this one

    @property
    def size(self) -> int:
        """K"""
        return self.decoder[0].enter.w.shape[1]

    @property
    def codes(self) -> Tensor:
        """[K, D]"""
        enter = self.decoder[0].enter
        return enter.w.flatten(1).T + enter.b

    def lookup(self, indices: Tensor) -> Tensor:
        """Indices [B, h, w] int64 -> codes [B, D, h, w]; ValueError for an index outside 0..K-1."""
        check_indices(indices, len(self.codes))
        return F.embedding(indices, self.codes).movedim(-1, 1)

    def forward(self, latents: Tensor) -> Quantized:
        """Logits [B, K, h, w] -> codes, the largest one's index, no loss."""
        indices = latents.argmax(1)
        return Quantized(self.lookup(indices), indices, latents.new_zeros(()))


class DVAE(nn.Module, FirstStage):
    """A first stage as `VQGAN` is one; latents are logits over the codes."""

    config: DVAEConfig

    def __init__(self, config: DVAEConfig):
        super().__init__()
        self.config = config
        widths = [config.hidden * factor for factor in (1, 2, 4, 8)]
        self.encoder = Tower(
            Conv(3, config.hidden, 7), widths, config.blocks_per_group, (3, 3, 3, 1), nn.MaxPool2d(2),
            config.codebook_size,
        )  # fmt: skip
        self.decoder = Tower(
            Conv(config.codebook_size, config.code_dim, 1), widths[::-1], config.blocks_per_group, (1, 3, 3, 3),
            nn.Upsample(scale_factor=2, mode="nearest"), 6,
        )  # fmt: skip

    @property
    def codebook(self) -> DVAECodebook:
        """Of the weights as they are."""
        return DVAECodebook(self.decoder)

    @property
    def codebooks(self) -> tuple[DVAECodebook]:
        """The one that there is."""
        return (self.codebook,)

    @property
    def latent_width(self) -> int:
        """Channels of the logits."""
        return self.config.codebook_size

    def encode(self, image: Tensor) -> Tensor:
        """Logits of the codes: [B, 3, H, W] in -1..1 -> [B, K, H/8, W/8]; ValueError for what does not fit."""
        channels, height, width = image.shape[1:]
        if channels != 3:
            raise ValueError(f"the picture has {channels} channels, the dVAE takes 3; convert the picture first")
        if height % 8 or width % 8 or not height or not width:
            raise ValueError(f"the picture is {width}x{height} pixels, both sides must be multiples of 8; pad it first")
        return self.encoder(map_pixels(image))

    def quantize(self, latents: Tensor) -> Quantized:
        """The likeliest code of each cell."""
        return self.codebook(latents)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, D, h, w] -> image [B, 3, H, W] in -1..1."""
        x = self.decoder.blocks[1:](codes)
        return ((x[:, :3].sigmoid() - MARGIN) / (1 - 2 * MARGIN)).clamp(0, 1) * 2 - 1

    def forward(self, image: Tensor) -> Reconstruction:
        """[B, 3, H, W] in -1..1 -> what becomes of it."""
        logits = self.encode(image)
        quantized = self.quantize(logits)
        return Reconstruction(self.decode(quantized.codes), quantized, logits, ((logits, quantized.indices),))


def map_pixels(image: Tensor) -> Tensor:
    """-1..1 -> 0.1..0.9"""
    return (1 - 2 * MARGIN) * (image + 1) / 2 + MARGIN


KIND: Kind[FirstStage] = Kind("dvae", DVAE, DVAEConfig)
