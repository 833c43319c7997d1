"""Decoding large and seamless images, strip by strip of rows (section 3.2: images of megapixels).

The operations are the decoder's own (`strips.layers`).

Seamless images: where the canvas wraps, every convolution sees the other end beyond the border instead of
zeros, so that the image tiles, and rolling the codes rolls the image. Attention and group norm do so anyway.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...geometry import Wrap
from ..base import FirstStage
from ..blocks import Level, upsample_and_convolve
from ..vqgan import VQGAN, Decoder
from .layers import GroupMoments, StripLayers, new_output, strips_of
from .memory import decode_memory, memory_for_strips

WRAP_MARGIN = 12  # cells, further than a dVAE sees


@torch.no_grad()
def decode_indices(model: FirstStage, indices: Tensor, wrap: Wrap = "none", memory: int | None = None) -> Tensor:
    """Indices [B, h, w] -> image [B, C, H, W], as `VQGAN.decode_indices`; `wrap` and `memory` as `decode_codes`."""
    return decode_codes(model, model.codebook.lookup(indices), wrap, memory)


@torch.no_grad()
def decode_codes(model: FirstStage, codes: Tensor, wrap: Wrap = "none", memory: int | None = None) -> Tensor:
    """Codes or latents [B, D, h, w] -> image [B, C, H, W], as `VQGAN.decode`; seamless where `wrap` says so.

    In one piece, or strip by strip and one image after the other where `needs_strips`.
    """
    if not isinstance(model, VQGAN):
        return model.decode(codes) if wrap == "none" else decode_wrapped(model, codes, wrap)
    if needs_strips(model, (codes.shape[-2], codes.shape[-1]), len(codes), wrap, memory):
        return decode_in_strips(model, codes, wrap)
    return model.decode(codes)


def decode_wrapped(model: FirstStage, codes: Tensor, wrap: Wrap) -> Tensor:
    """A decoder of local layers, seamless: with `WRAP_MARGIN` cells of the other end all around, cut off afterwards."""
    height, width = codes.shape[-2:]
    down, across = (WRAP_MARGIN if wrap in (way, "both") else 0 for way in ("y", "x"))
    rows, columns = (torch.arange(-m, n + m, device=codes.device) % n for m, n in ((down, height), (across, width)))
    images, stride = model.decode(codes[:, :, rows][..., columns]), model.config.stride
    top, left = down * stride, across * stride
    return images[..., top : top + height * stride, left : left + width * stride]


def needs_strips(
    model: FirstStage, size: tuple[int, int], batch: int = 1, wrap: Wrap = "none", memory: int | None = None
) -> bool:
    """Whether images of `size` in cells are decoded strip by strip: where they wrap, or in one piece would take more
    than `memory` bytes (`decode_memory`). None is what `memory_for_strips` says of the model's device."""
    if not isinstance(model, VQGAN):
        return False
    weight = model.post_quant_conv.weight
    memory = memory_for_strips(weight.device) if memory is None else memory
    return wrap != "none" or batch * decode_memory(model.config, *size, False, weight.element_size()) > memory


@torch.no_grad()
def decode_in_strips(model: VQGAN, codes: Tensor, wrap: Wrap = "none") -> Tensor:
    """Codes [B, D, h, w] -> image [B, C, H, W], as `VQGAN.decode` up to rounding; seamless where `wrap` says so."""
    stride, (batch, _, height, width) = model.config.stride, codes.shape
    latents = model.post_quant_conv(codes.contiguous())
    images = latents.new_empty(batch, model.config.image_channels, height * stride, width * stride)
    for image, latent in zip(images, latents, strict=True):
        StripDecoder(model.config.norm_groups, wrap).decode(model.decoder, latent, image)
    return images


class StripDecoder(StripLayers):
    """The decoder, strip by strip."""

    def decode(self, decoder: Decoder, latent: Tensor, image: Tensor) -> None:
        """`Decoder.forward` of a latent [C, h, w] into an image."""
        x = new_output(latent, decoder.conv_in)
        moments = self.convolve(latent, decoder.conv_in, x)
        x, moments = self.middle(decoder.mid, x, moments)
        for level in reversed(decoder.up):
            x, moments = self.level(level, x, moments)
        prepare, patch_size = moments.activation(decoder.norm_out), decoder.patch_size
        for first, last in strips_of(x):
            strip = self.convolve_strip(decoder.conv_out, self.rows_with_halo(x, first, last, prepare))
            image[:, first * patch_size : last * patch_size] = F.pixel_shuffle(strip, patch_size)

    def level(self, level: Level, x: Tensor, moments: GroupMoments) -> tuple[Tensor, GroupMoments]:
        """`Level.forward`."""
        x, moments = self.blocks(level, x, moments)
        return self.upsample(level.upsample.conv, x) if hasattr(level, "upsample") else (x, moments)

    def upsample(self, conv: nn.Conv2d, x: Tensor) -> tuple[Tensor, GroupMoments]:
        """`Upsample.forward`."""
        _, height, width = x.shape
        out, moments = x.new_empty(conv.out_channels, 2 * height, 2 * width), GroupMoments(self.groups)
        for first, last in strips_of(out, even=True):
            rows = self.rows_with_halo(x, first // 2, last // 2)
            rows = self.columns_with_halo(rows).unsqueeze(0)
            strip = upsample_and_convolve(conv, rows, (1, int(self.wrap_columns)))[0]
            moments.add(strip)
            out[:, first:last] = strip
        return out, moments
