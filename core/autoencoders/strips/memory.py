"""Memory of encoding and decoding, whole and in strips."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from ..base import StageConfig
from ..vqgan import VQGANConfig
from .layers import STRIP

WHOLE_COPIES = 7  # of a layer, in one piece
WORKSPACE = 32 * 2**20  # bytes that the library keeps for convolutions
MIN_STRIP_MEMORY = 256 * 2**20  # bytes; below, a CPU works on images whole


def memory_for_strips(device: torch.device) -> int:
    """Bytes that encoding or decoding in one piece may take: half of what is free on a GPU; 256 MB on a CPU,
    where strips are no slower."""
    if device.type != "cuda":
        return MIN_STRIP_MEMORY
    reserved, used = torch.cuda.memory_reserved(device), torch.cuda.memory_allocated(device)
    return (torch.cuda.mem_get_info(device)[0] + reserved - used) // 2  # what torch holds in reserve is free too


def decode_memory(config: StageConfig, height: int, width: int, strips: bool, element: int = 4) -> int:
    """Estimated peak bytes of decoding one image of height x width cells, beyond model and image; other first stages
    than a VQGAN know no strips."""
    if not isinstance(config, VQGANConfig):
        return WHOLE_COPIES * config.pixel_channels * height * width * config.stride**2 * element
    levels, last = reversed(range(len(config.channel_mult))), config.channels * config.channel_mult[-1]
    return _memory(config, levels, last, (height, width), strips, element)


def encode_memory(config: StageConfig, height: int, width: int, strips: bool, element: int = 4) -> int:
    """The same for encoding."""
    if not isinstance(config, VQGANConfig):
        return decode_memory(config, height, width, strips, element)
    return _memory(config, range(len(config.channel_mult)), config.channels, (height, width), strips, element)


def _memory(
    config: VQGANConfig, levels: Iterable[int], previous: int, size: tuple[int, int], strips: bool, element: int
) -> int:
    """Peak bytes over the levels; `previous` is the number of channels that the first one is given.

    A whole layer holds its input, the normalized and the activated one, and the convolution's input and output each
    twice, as they are and as the library lays them out; strips hold input, half-way result and, where channels
    change, output.
    """
    most = 0
    for level in levels:
        channels = config.channels * config.channel_mult[level]
        scale = 2 ** (len(config.channel_mult) - 1 - level)
        plane = size[0] * size[1] * scale**2 * element
        tensors = (
            (previous + 2 * channels if previous != channels else 2 * channels) if strips else WHOLE_COPIES * previous
        )
        most = max(most, tensors * plane)
        previous = channels
    return most + (8 * STRIP + WORKSPACE if strips else 0)
