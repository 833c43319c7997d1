"""Layers of the VQGAN applied to strips of rows, one after the other, on the model's own weights.

Group norm looks at the whole image, so each layer is finished before the next begins; but within a layer one strip
after the other passes through norm, swish and convolution, and of a residual block only its input and one half-way
result are ever held whole. Attention takes its queries in parts. Strips that fit a CPU's cache are also faster
than whole layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...geometry import Wrap, cells_along
from ..blocks import AttentionBlock, Level, Middle, ResidualBlock

STRIP = 8 * 2**20  # bytes that one strip of a layer has about
QUERIES = 1024  # of the attention at once, about; fewer would not fill a CPU
Prepare = Callable[[Tensor], Tensor]  # strip [C, n, W] -> what the convolution sees of it


class GroupMoments:
    """Mean and variance of the groups of a layer, gathered strip by strip; on the strips' device."""

    def __init__(self, groups: int = 32):
        self.groups, self.count = groups, 0
        self.mean = torch.zeros(())  # [groups], once there is a strip
        self.square = torch.zeros(())  # [groups], sum of squared deviations

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


class StripLayers:
    """Layers applied strip by strip to one image [C, H, W], its borders as `wrap` says."""

    def __init__(self, groups: int = 32, wrap: Wrap = "none"):
        self.groups = groups  # of the model's norms
        self.wrap_rows, self.wrap_columns = wrap in ("y", "both"), wrap in ("x", "both")

    def blocks(self, level: Level, x: Tensor, moments: GroupMoments) -> tuple[Tensor, GroupMoments]:
        """The blocks of `Level.forward`, without what changes the resolution."""
        halfway = None  # memory for one block after the other
        for i, block in enumerate(level.block):
            if halfway is None or len(halfway) != block.conv1.out_channels:
                halfway = new_output(x, block.conv1)
            x, moments = self.residual(block, x, moments, halfway)
            if level.attn:
                moments = self.attend(level.attn[i], x, moments)
        return x, moments

    def middle(self, middle: Middle, x: Tensor, moments: GroupMoments) -> tuple[Tensor, GroupMoments]:
        """`Middle.forward`."""
        x, moments = self.residual(middle.block_1, x, moments)
        moments = self.attend(middle.attn_1, x, moments)
        return self.residual(middle.block_2, x, moments)

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
            strip = self.convolve_strip(block.conv2, self.rows_with_halo(halfway, first, last, prepare))
            before = x[:, first:last]
            strip += before if shortcut is None else convolve_rows(shortcut, before)
            after.add(strip)
            out[:, first:last] = strip
        return out, after

    def attend(self, block: AttentionBlock, x: Tensor, moments: GroupMoments) -> GroupMoments:
        """`AttentionBlock.forward`, in place."""
        prepare, after = moments.activation(block.norm, swish=False), GroupMoments(self.groups)
        normed = prepare(x)
        # the library's fast attention takes rows that lie together in memory
        k, v = (convolve_rows(layer, normed).flatten(1).t().contiguous() for layer in (block.k, block.v))  # [H * W, C]
        height, width = x.shape[1:]
        rows = -(-QUERIES // width)
        for first in range(0, height, rows):
            part = x[:, first : first + rows]
            q = convolve_rows(block.q, normed[:, first : first + rows]).flatten(1).t().contiguous()
            attended = F.scaled_dot_product_attention(q[None, None], k[None, None], v[None, None])[0, 0]  # [n * W, C]
            part += convolve_rows(block.proj_out, attended.t().reshape(part.shape))
            after.add(part)
        return after

    def convolve(self, x: Tensor, conv: nn.Conv2d, out: Tensor, prepare: Prepare | None = None) -> GroupMoments:
        """A 3x3 convolution of what `prepare` makes of x, into `out`; its moments."""
        moments = GroupMoments(self.groups)
        for first, last in strips_of(out):
            strip = self.convolve_strip(conv, self.rows_with_halo(x, first, last, prepare))
            moments.add(strip)
            out[:, first:last] = strip
        return moments

    def rows_with_halo(self, x: Tensor, first: int, last: int, prepare: Prepare | None = None) -> Tensor:
        """Prepared rows first..last-1 of [C, H, W] with one more above and below: [C, n + 2, W]."""
        height = x.shape[1]
        if self.wrap_rows and (first == 0 or last == height):
            strip = x[:, cells_along(first - 1, last - first + 2, height, True)]
        else:
            strip = x[:, max(first - 1, 0) : last + 1]
        strip = strip if prepare is None else prepare(strip)
        above, below = int(first == 0), int(last == height)
        return strip if self.wrap_rows or not above + below else F.pad(strip, (0, 0, above, below))

    def convolve_strip(self, conv: nn.Conv2d, strip: Tensor) -> Tensor:
        """A 3x3 convolution of rows that have their neighbors: [C, n + 2, W] -> [C', n, W]."""
        return convolve_rows(conv, self.columns_with_halo(strip), (0, int(not self.wrap_columns)))

    def columns_with_halo(self, strip: Tensor) -> Tensor:
        """One more column at either side where columns wrap: [C, n, W] -> [C, n, W + 2]."""
        return torch.cat([strip[:, :, -1:], strip, strip[:, :, :1]], 2) if self.wrap_columns else strip


def convolve_rows(conv: nn.Conv2d, rows: Tensor, padding: tuple[int, int] = (0, 0)) -> Tensor:
    """A convolution of some rows of a layer: [C, n, W] -> [C', n', W']."""
    return F.conv2d(rows.unsqueeze(0), conv.weight, conv.bias, conv.stride, padding)[0]


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
