"""Encoding large images, strip by strip of rows: the encoder's own operations (`strips.layers`)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import FirstStage
from ..precision import exact_float32
from ..vqgan import VQGAN, Encoder
from .layers import GroupMoments, StripLayers, convolve_rows, new_output, strips_of
from .memory import encode_memory, memory_for_strips


@torch.no_grad()
def encode_indices(model: FirstStage, images: Tensor, memory: int | None = None) -> Tensor:
    """Images [B, C, H, W] -> indices [B, h, w], as `VQGAN.encode_indices`; `memory` as `encode`."""
    with exact_float32(model.device):
        return model.quantize(encode(model, images, memory)).indices


@torch.no_grad()
def encode(model: FirstStage, images: Tensor, memory: int | None = None) -> Tensor:
    """Images [B, C, H, W] -> latents [B, D, h, w], as `VQGAN.encode`; errors as there.

    In one piece, or strip by strip where one image alone would take more than `memory` bytes; None is what
    `memory_for_strips` says of the model's device.
    """
    if not isinstance(model, VQGAN):
        return model.encode(images)
    memory = memory_for_strips(model.device) if memory is None else memory
    height, width = (side // model.config.stride for side in images.shape[-2:])
    one = encode_memory(model.config, height, width, False, images.element_size())
    return model.encode(images) if one <= memory else encode_in_strips(model, images)


@torch.no_grad()
def encode_in_strips(model: VQGAN, images: Tensor) -> Tensor:
    """Images [B, C, H, W] -> latents [B, D, h, w], as `VQGAN.encode` up to rounding; errors as there."""
    model.check_image_size(images)
    encoder = StripEncoder(model.config.norm_groups)
    return model.quant_conv(torch.stack([encoder.encode(model.encoder, image) for image in images]))


class StripEncoder(StripLayers):
    """The encoder, strip by strip."""

    def encode(self, encoder: Encoder, image: Tensor) -> Tensor:
        """`Encoder.forward` of an image [C, H, W] -> [latent_channels, h, w]."""
        image = F.pixel_unshuffle(image, encoder.patch_size)
        x = new_output(image, encoder.conv_in)
        moments = self.convolve(image, encoder.conv_in, x)
        del image
        for level in encoder.down:
            x, moments = self.blocks(level, x, moments)
            if hasattr(level, "downsample"):
                x, moments = self.downsample(level.downsample.conv, x)
        x, moments = self.middle(encoder.mid, x, moments)
        prepare, out = moments.activation(encoder.norm_out), new_output(x, encoder.conv_out)
        for first, last in strips_of(x):
            out[:, first:last] = self.convolve_strip(encoder.conv_out, self.rows_with_halo(x, first, last, prepare))
        return out

    def downsample(self, conv: nn.Conv2d, x: Tensor) -> tuple[Tensor, GroupMoments]:
        """`Downsample.forward`: rows 2r to 2r + 2 of x make row r, with zeros below the last."""
        channels, height, width = x.shape
        out, moments = x.new_empty(channels, height // 2, width // 2), GroupMoments(self.groups)
        for first, last in strips_of(out):
            below = int(2 * last == height)
            strip = convolve_rows(conv, F.pad(x[:, 2 * first : 2 * last + 1], (0, 1, 0, below)))
            moments.add(strip)
            out[:, first:last] = strip
        return out, moments
