"""Building blocks shared by the encoder, the decoder and nothing else (paper section 3.1).

The operations and their order are those of the released models, so that their weights fit:
GroupNorm (32 groups in every released model, eps 1e-6), swish, residual blocks, single-head attention over
all positions, stride-2 convolution padded right and bottom only, nearest-neighbor upsampling.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..modules import Stack


def group_norm(channels: int, groups: int = 32) -> nn.GroupNorm:
    """GroupNorm as the released models have it; `channels` must be a multiple of `groups`."""
    return nn.GroupNorm(groups, channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each after norm and swish, added to the input. [B, C, h, w] -> [B, C', h, w]"""

    def __init__(self, channels_in: int, channels_out: int, groups: int = 32):
        super().__init__()
        self.norm1 = group_norm(channels_in, groups)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2 = group_norm(channels_out, groups)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        if channels_in != channels_out:
            self.nin_shortcut = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.conv1(F.silu(self.norm1(x)))
        residual = self.conv2(F.silu(self.norm2(residual)))
        if hasattr(self, "nin_shortcut"):
            x = self.nin_shortcut(x)
        return x + residual


class AttentionBlock(nn.Module):
    """Single-head self-attention over all positions (arXiv eq. 1), added to the input. [B, C, h, w] -> same"""

    def __init__(self, channels: int, groups: int = 32):
        super().__init__()
        self.norm = group_norm(channels, groups)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        # [B, C, h, w] -> [B, 1, h*w, C]: one head as wide as the channels; contiguous, or torch on the CPU holds
        # the matrix of all pairs of positions
        q, k, v = (
            layer(normed).flatten(2).transpose(1, 2).contiguous().unsqueeze(1) for layer in (self.q, self.k, self.v)
        )
        attended = F.scaled_dot_product_attention(q, k, v)  # [B, 1, h*w, C]
        attended = attended.squeeze(1).transpose(1, 2).reshape(x.shape)  # [B, C, h, w]
        return x + self.proj_out(attended)


class Downsample(nn.Module):
    """Halve height and width. Pads right and bottom only, as the released models do."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double height and width: nearest neighbor, then a 3x3 convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return upsample_and_convolve(self.conv, x)


def upsample_and_convolve(conv: nn.Conv2d, x: Tensor, halo: tuple[int, int] = (0, 0)) -> Tensor:
    """Nearest neighbor to twice the size, then a 3x3 convolution, of [B, C, h, w]; rows and columns of a halo around x
    are neighbors alone.

    A pixel that is doubled meets sums of the kernel's rows and columns, so a transposed convolution by those does the
    same with 4 of 9 products. CPUs take half the time for it, with gradients too.

    Returns:
        [B, C, 2 * (h - 2 * halo[0]), 2 * (w - 2 * halo[1])].
    """
    kernel = _merged_taps(_merged_taps(conv.weight, 2), 3).transpose(0, 1)  # [C, C', 4, 4]
    return F.conv_transpose2d(x, kernel, conv.bias, stride=2, padding=(1 + 2 * halo[0], 1 + 2 * halo[1]))


def _merged_taps(kernel: Tensor, dim: int) -> Tensor:
    """What of three rows or columns of a kernel meets a doubled pixel, at each of the four places that it reaches."""
    first, second, third = kernel.unbind(dim)
    return torch.stack([third, second + third, first + second, first], dim)


class Level(nn.Module):
    """One resolution: residual blocks, each followed by attention where the config asks for it,
    then an optional change of resolution named `downsample` or `upsample`."""

    downsample: Downsample  # where there is one
    upsample: Upsample

    def __init__(self, channels_in: int, channels_out: int, blocks: int, attention: bool, groups: int = 32):
        super().__init__()
        self.block = Stack(
            ResidualBlock(channels_in if i == 0 else channels_out, channels_out, groups) for i in range(blocks)
        )
        self.attn = Stack(AttentionBlock(channels_out, groups) for _ in range(blocks if attention else 0))

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[i](x)
        if hasattr(self, "downsample"):
            x = self.downsample(x)
        if hasattr(self, "upsample"):
            x = self.upsample(x)
        return x


class Middle(nn.Module):
    """Block, attention, block at the lowest resolution: context from everywhere (section 3.1)."""

    def __init__(self, channels: int, groups: int = 32):
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, groups)
        self.attn_1 = AttentionBlock(channels, groups)
        self.block_2 = ResidualBlock(channels, channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))
