"""Decoding large and seamless pictures, strip by strip of rows (section 3.2: pictures of megapixels).

The operations are the decoder's own, on its own weights. Group norm looks at the whole picture, so each layer is
finished before the next begins; but within a layer one strip after the other passes through norm, swish and
convolution, and of a residual block only its input and one half-way result are ever held whole. Attention takes
its queries in parts. Strips that fit a processor's cache are also faster than whole layers.

Seamless pictures: where the canvas wraps, every convolution sees the other end beyond the border instead of
zeros, so that the picture tiles, and rolling the codes rolls the picture. Attention and group norm do so anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..geometry import Wrap, cells_along
from .blocks import AttentionBlock, Level, ResidualBlock
from .vqgan import VQGAN, Decoder, VQGANConfig
from .vqgan_file import FirstStage

CODEC_COPIES = 7  # of the finest features; measured 5.0 to 6.1, for encoder and decoder
STRIP = 8 * 2**20  # bytes that one strip of a layer has about
ATTENTION = 2 * 2**20  # numbers in the part of the attention matrix that is held at once
WORKSPACE = 32 * 2**20  # bytes that the library keeps for convolutions
WRAP_MARGIN = 12  # cells, further than a dVAE sees
MIN_STRIP_MEMORY = 256 * 2**20  # bytes; below, a processor decodes pictures whole
Prepare = Callable[[Tensor], Tensor]  # strip [C, n, W] -> what the convolution sees of it


@torch.no_grad()
def decode_indices(model: FirstStage, indices: Tensor, wrap: Wrap = "none", memory: int | None = None) -> Tensor:
    """Indices [B, h, w] -> picture [B, C, H, W], as `VQGAN.decode_indices`; `wrap` and `memory` as `decode_codes`."""
    return decode_codes(model, model.codebook.lookup(indices), wrap, memory)


@torch.no_grad()
def decode_codes(model: FirstStage, codes: Tensor, wrap: Wrap = "none", memory: int | None = None) -> Tensor:
    """Codes or latents [B, D, h, w] -> picture [B, C, H, W], as `VQGAN.decode`; seamless where `wrap` says so.

    In one piece, or strip by strip and one picture after the other where `needs_strips`.
    """
    if not isinstance(model, VQGAN):
        return model.decode(codes) if wrap == "none" else decode_wrapped(model, codes, wrap)
    if needs_strips(model, tuple(codes.shape[-2:]), len(codes), wrap, memory):
        return decode_in_strips(model, codes, wrap)
    return model.decode(codes)


def decode_wrapped(model: FirstStage, codes: Tensor, wrap: Wrap) -> Tensor:
    """A decoder of local layers, seamless: with `WRAP_MARGIN` cells of the other end around, cut off afterwards."""
    height, width = codes.shape[-2:]
    down, across = (WRAP_MARGIN if wrap in (way, "both") else 0 for way in ("y", "x"))
    rows, columns = (torch.arange(-m, n + m, device=codes.device) % n for m, n in ((down, height), (across, width)))
    images, stride = model.decode(codes[:, :, rows][..., columns]), model.config.stride
    top, left = down * stride, across * stride
    return images[..., top : top + height * stride, left : left + width * stride]


def needs_strips(
    model: VQGAN, size: tuple[int, int], batch: int = 1, wrap: Wrap = "none", memory: int | None = None
) -> bool:
    """Whether pictures of so many cells are decoded strip by strip: where they wrap, or in one piece would take more
    than `memory` bytes (`decode_memory`). None is what `memory_for_decoding` says of the model's device."""
    weight = model.post_quant_conv.weight
    memory = memory_for_decoding(weight.device) if memory is None else memory
    return wrap != "none" or batch * decode_memory(model.config, *size, False, weight.element_size()) > memory


def memory_for_decoding(device: torch.device) -> int:
    """Bytes that decoding in one piece may take: half of what is free on a GPU; 256 MB on a processor, where strips
    are no slower."""
    if device.type != "cuda":
        return MIN_STRIP_MEMORY
    reserved, used = torch.cuda.memory_reserved(device), torch.cuda.memory_allocated(device)
    return (torch.cuda.mem_get_info(device)[0] + reserved - used) // 2  # what torch holds in reserve is free too


@torch.no_grad()
def decode_in_strips(model: VQGAN, codes: Tensor, wrap: Wrap = "none") -> Tensor:
    """Codes [B, D, h, w] -> picture [B, C, H, W], as `VQGAN.decode` up to rounding; seamless where `wrap` says so."""
    stride, (batch, _, height, width) = model.config.stride, codes.shape
    latents = model.post_quant_conv(codes.contiguous())
    images = latents.new_empty(batch, model.config.image_channels, height * stride, width * stride)
    for image, latent in zip(images, latents, strict=True):
        StripDecoder(wrap, model.config.norm_groups).decode(model.decoder, latent, image)
    return images


def codec_memory(vqgan: VQGAN, height: int, width: int) -> int:
    """Bytes that encoding one image of so many pixels takes besides the weights, or decoding it whole; measured as
    peaks of allocated memory, on models of 32 and 128 channels."""
    config, element = vqgan.config, vqgan.quant_conv.weight.element_size()
    return CODEC_COPIES * element * height * width * config.channels // config.patch_size**2


def decode_memory(config: VQGANConfig, height: int, width: int, strips: bool, element: int = 4) -> int:
    """About how many bytes decoding one picture of height x width cells takes at most, beyond model and picture.

    A whole layer holds its input, the normalized and the activated one, and the convolution's input and output each
    twice, as they are and as the library lays them out; strips hold input, half-way result and, where channels
    change, output.
    """
    most, previous = 0, config.channels * config.channel_mult[-1]
    for level in reversed(range(len(config.channel_mult))):
        channels = config.channels * config.channel_mult[level]
        scale = 2 ** (len(config.channel_mult) - 1 - level)
        plane = height * width * scale**2 * element
        tensors = (previous + 2 * channels if previous != channels else 2 * channels) if strips else 7 * previous
        most = max(most, tensors * plane)
        previous = channels
    return most + (8 * STRIP + WORKSPACE if strips else 0)


class GroupMoments:
    """Mean and variance of the groups of a layer, gathered strip by strip; on the strips' device."""

    def __init__(self, groups: int = 32):
        self.groups, self.count = groups, 0
        self.mean: Tensor | float = 0.0  # [groups]
        self.square: Tensor | float = 0.0  # [groups], sum of squared deviations

    def add(self, strip: Tensor) -> None:
        """Take in [C, n, W]; the parts are merged by the pairwise formula of Chan et al. (1979)."""
        flat = strip.to(torch.promote_types(strip.dtype, torch.float32)).reshape(1, self.groups, -1).contiguous()
        count = flat.shape[2]
        # the library's group norm finds the moments several times faster than var_mean
        _, mean, rstd = torch.native_group_norm(flat, None, None, 1, self.groups, count, self.groups, 0.0)
        exact = torch.float32 if strip.device.type == "mps" else torch.float64  # mps has no float64
        mean, square = mean[0].to(exact), count / rstd[0].to(exact).square()
        total = self.count + count
        apart = mean - self.mean
        self.mean = self.mean + apart * (count / total)
        self.square = self.square + square + apart.square() * (self.count * count / total)
        self.count = total

    def activation(self, norm: nn.GroupNorm, swish: bool = True) -> Prepare:
        """Group norm with these moments, then swish: on strips."""
        each = norm.num_channels // self.groups
        rstd = (self.square / self.count + norm.eps).rsqrt().repeat_interleave(each)
        mean = self.mean.repeat_interleave(each)
        scale = norm.weight.to(rstd) * rstd
        shift = norm.bias.to(rstd) - mean * scale
        scale, shift = (v.to(norm.weight)[:, None, None] for v in (scale, shift))

        def prepare(strip: Tensor) -> Tensor:
            normed = torch.mul(strip, scale).add_(shift)
            return F.silu(normed, inplace=True) if swish else normed

        return prepare


class StripDecoder:
    """Layers applied strip by strip to one picture [C, H, W], its borders as `wrap` says."""

    def __init__(self, wrap: Wrap, groups: int = 32):
        self.wrap_rows, self.wrap_columns = wrap in ("y", "both"), wrap in ("x", "both")
        self.groups = groups  # of the decoder's norms

    def decode(self, decoder: Decoder, latent: Tensor, image: Tensor) -> None:
        """`Decoder.forward` of a latent [C, h, w] into an image."""
        x = new_output(latent, decoder.conv_in)
        moments = self.convolve(latent, decoder.conv_in, x)
        x, moments = self.residual(decoder.mid.block_1, x, moments)
        moments = self.attend(decoder.mid.attn_1, x, moments)
        x, moments = self.residual(decoder.mid.block_2, x, moments)
        for level in reversed(decoder.up):
            x, moments = self.level(level, x, moments)
        prepare, patch_size = moments.activation(decoder.norm_out), decoder.patch_size
        for first, last in strips_of(x):
            strip = self.convolution(decoder.conv_out, self.around(x, first, last, prepare))
            image[:, first * patch_size : last * patch_size] = F.pixel_shuffle(strip, patch_size)

    def level(self, level: Level, x: Tensor, moments: GroupMoments) -> tuple[Tensor, GroupMoments]:
        """`Level.forward`."""
        halfway = None  # memory for one block after the other
        for i, block in enumerate(level.block):
            if halfway is None or len(halfway) != block.conv1.out_channels:
                halfway = new_output(x, block.conv1)
            x, moments = self.residual(block, x, moments, halfway)
            if level.attn:
                moments = self.attend(level.attn[i], x, moments)
        del halfway
        return self.upsample(level.upsample.conv, x) if hasattr(level, "upsample") else (x, moments)

    def residual(
        self, block: ResidualBlock, x: Tensor, moments: GroupMoments, halfway: Tensor | None = None
    ) -> tuple[Tensor, GroupMoments]:
        """`ResidualBlock.forward`, in place where channels stay."""
        halfway = new_output(x, block.conv1) if halfway is None else halfway
        inner = self.convolve(x, block.conv1, halfway, moments.activation(block.norm1))
        prepare, after = inner.activation(block.norm2), GroupMoments(self.groups)
        shortcut = getattr(block, "nin_shortcut", None)
        out = x if shortcut is None else new_output(x, shortcut)
        for first, last in strips_of(halfway):
            strip = self.convolution(block.conv2, self.around(halfway, first, last, prepare))
            before = x[:, first:last]
            strip += before if shortcut is None else unpadded(shortcut, before)
            after.add(strip)
            out[:, first:last] = strip
        return out, after

    def attend(self, block: AttentionBlock, x: Tensor, moments: GroupMoments) -> GroupMoments:
        """`AttentionBlock.forward`, in place."""
        prepare, after = moments.activation(block.norm, swish=False), GroupMoments(self.groups)
        normed = prepare(x)
        k, v = (unpadded(layer, normed).flatten(1).t() for layer in (block.k, block.v))  # [H * W, C]
        height, width = x.shape[1:]
        rows = max(1, ATTENTION // (height * width * width))
        for first in range(0, height, rows):
            part = x[:, first : first + rows]
            q = unpadded(block.q, normed[:, first : first + rows]).flatten(1).t()
            attended = F.scaled_dot_product_attention(*(t[None, None] for t in (q, k, v)))[0, 0]  # [n * W, C]
            part += unpadded(block.proj_out, attended.t().reshape(part.shape))
            after.add(part)
        return after

    def upsample(self, conv: nn.Conv2d, x: Tensor) -> tuple[Tensor, GroupMoments]:
        """`Upsample.forward`."""
        channels, height, width = x.shape
        out, moments = x.new_empty(conv.out_channels, 2 * height, 2 * width), GroupMoments(self.groups)
        for first, last in strips_of(out, even=True):
            # one row of x more on either side gives two rows, of which the convolution needs the nearer one
            around = self.around(x, first // 2, last // 2)
            large = around[:, :, None, :, None].expand(-1, -1, 2, -1, 2).reshape(channels, -1, 2 * width)
            strip = self.convolution(conv, large[:, 1:-1])
            moments.add(strip)
            out[:, first:last] = strip
        return out, moments

    def convolve(self, x: Tensor, conv: nn.Conv2d, out: Tensor, prepare: Prepare | None = None) -> GroupMoments:
        """A 3x3 convolution of what `prepare` makes of x, into `out`; its moments."""
        moments = GroupMoments(self.groups)
        for first, last in strips_of(out):
            strip = self.convolution(conv, self.around(x, first, last, prepare))
            moments.add(strip)
            out[:, first:last] = strip
        return moments

    def around(self, x: Tensor, first: int, last: int, prepare: Prepare | None = None) -> Tensor:
        """Prepared rows first..last-1 of [C, H, W] with one more above and below: [C, n + 2, W]."""
        height = x.shape[1]
        if self.wrap_rows and (first == 0 or last == height):
            strip = x[:, cells_along(first - 1, last - first + 2, height, True)]
        else:
            strip = x[:, max(first - 1, 0) : last + 1]
        strip = strip if prepare is None else prepare(strip)
        above, below = int(first == 0), int(last == height)
        return strip if self.wrap_rows or not above + below else F.pad(strip, (0, 0, above, below))

    def convolution(self, conv: nn.Conv2d, strip: Tensor) -> Tensor:
        """A 3x3 convolution of rows that have their neighbors: [C, n + 2, W] -> [C', n, W]."""
        if self.wrap_columns:
            return unpadded(conv, torch.cat([strip[:, :, -1:], strip, strip[:, :, :1]], 2))
        return F.conv2d(strip.unsqueeze(0), conv.weight, conv.bias, padding=(0, 1))[0]


def unpadded(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """[C, n, W] -> [C', n - kernel + 1, W - kernel + 1]."""
    return F.conv2d(x.unsqueeze(0), conv.weight, conv.bias)[0]


def new_output(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Memory for what a convolution makes of [C, H, W]."""
    return x.new_empty(conv.out_channels, *x.shape[1:])


def strips_of(x: Tensor, even: bool = False) -> Iterator[tuple[int, int]]:
    """First and last row (not included) of each strip of [C, H, W]; even numbers if asked for."""
    channels, height, width = x.shape
    rows = max(1, STRIP // (channels * width * x.element_size()))
    rows = max(2, rows // 2 * 2) if even else rows
    for first in range(0, height, rows):
        yield first, min(first + rows, height)
