"""What PixelSNAIL is made of: causal convolutions of normalized weights, and gated layers of two of them.

Activations are [B, m, C], of m positions row by row; position j knows of the cells before j alone. They are evaluated
all at once, the first ones of a window, or a few at a time, with what each convolution was given before in its grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CONDITION_LAYERS = 3


@dataclass
class Span:
    """The positions first..end-1 of a window of `side` x `side` cells, which are evaluated.

    grids: [B, side**2 + 1, C] for each convolution in turn, of all positions, the last row zero: what lies beyond the
        border; None where the span is whole rows from the first position on.
    """

    side: int
    first: int
    end: int
    grids: Iterator[Tensor] | None = None


class NormedLinear(nn.Module):
    """A linear layer or convolution of T taps whose weights are a direction and a length for each output (weight
    normalization, arXiv 1602.07868)."""

    def __init__(self, channels_in: int, channels_out: int, taps: int = 1):
        super().__init__()
        self.direction = nn.Parameter(torch.randn(channels_out, taps * channels_in))
        self.gain = nn.Parameter(torch.ones(channels_out, 1))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        self.folded: Tensor | None = None

    @property
    def weight(self) -> Tensor:
        """[C', T * C]"""
        if self.folded is not None:
            return self.folded
        return self.gain * F.normalize(self.direction, dim=1)

    def fold(self) -> None:
        """Work the weights out once, for weights that no longer change."""
        self.folded = self.weight.detach()

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class CausalConv(NormedLinear):
    """A convolution over the rows above and the cells to the left: [B, m, C] -> [B, m, C'].

    kernel: its width, odd; it reaches (kernel - 1) / 2 rows up. strict: without the cell itself.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, strict: bool = False):
        self.kernel, self.up, self.strict = kernel, kernel // 2, strict
        self.taps = self.up * kernel + kernel // 2 + (not strict)
        super().__init__(channels_in, channels_out, self.taps)

    def forward(self, x: Tensor, span: Span) -> Tensor:
        return self.of_rows(x, span.side) if span.grids is None else self.of_cells(x, span, next(span.grids))

    def of_rows(self, x: Tensor, side: int) -> Tensor:
        """Whole rows from the first on."""
        kernel = self.weight.view(len(self.weight), self.taps, -1).transpose(1, 2)  # [C', C, T]
        kernel = F.pad(kernel, (0, (self.up + 1) * self.kernel - self.taps)).unflatten(2, (self.up + 1, self.kernel))
        image = x.unflatten(1, (-1, side)).permute(0, 3, 1, 2)  # [B, C, rows, side]
        image = F.pad(image, (self.kernel // 2, self.kernel // 2, self.up, 0))
        return F.conv2d(image, kernel, self.bias).permute(0, 2, 3, 1).flatten(1, 2)

    def of_cells(self, x: Tensor, span: Span, grid: Tensor) -> Tensor:
        """The positions of a span; a strict convolution is given the cells before each."""
        if self.strict:  # x are the cells from the one before the span on, or from the first
            grid[:, max(0, span.first - 1) : span.end - 1] = x
        else:
            grid[:, span.first : span.end] = x
        under = self.under(span.side, x.device)[span.first : span.end]  # [m, T]
        return F.linear(grid[:, under].flatten(2), self.weight, self.bias)

    def under(self, side: int, device: torch.device) -> Tensor:
        """The cells under each tap at each position, [side**2, T]; those beyond the border are number side**2."""
        tap, place = torch.arange(self.taps, device=device), torch.arange(side * side, device=device)
        row = place[:, None] // side + tap // self.kernel - self.up
        column = place[:, None] % side + tap % self.kernel - self.kernel // 2
        inside = (row >= 0) & (column >= 0) & (column < side)
        return torch.where(inside, row * side + column, side * side)


class GridConv(nn.Conv2d):
    """A 3x3 convolution over a whole grid, which sees all around: [B, s * s, C] -> [B, s * s, C']."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__(channels_in, channels_out, 3, padding=1)

    def forward(self, x: Tensor, side: int) -> Tensor:
        return super().forward(x.unflatten(1, (side, side)).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).flatten(1, 2)


class GatedLayer(nn.Module):
    """x + a * sigmoid(b), where a and b come from x by two layers, from what is `beside` it, and from the condition.

    layer: (channels in, channels out) -> a module, called with what `forward` is given as `arguments`.
    """

    def __init__(
        self,
        width: int,
        layer: Callable[[int, int], nn.Module],
        condition: int = 0,
        beside: int = 0,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.first, self.second = layer(width, width), layer(width, 2 * width)
        self.dropout = nn.Dropout(dropout)
        if beside:
            self.beside = NormedLinear(beside, width)
        if condition:
            self.condition = NormedLinear(condition, 2 * width)

    def forward(self, x: Tensor, *arguments, condition: Tensor | None = None, beside: Tensor | None = None) -> Tensor:
        y = self.first(F.elu(x), *arguments)
        if beside is not None:
            y = y + self.beside(F.elu(beside))
        y = self.second(self.dropout(F.elu(y)), *arguments)
        if condition is not None:
            y = y + self.condition(condition)
        value, gate = y.chunk(2, -1)
        return x + value * gate.sigmoid()


class GridEncoder(nn.Module):
    """A prefix that is a grid, for the cells of a window: [B, s * s, C] -> [B, n * n, C]."""

    def __init__(self, width: int, side: int, window: int):
        super().__init__()
        self.side, self.window = side, window
        self.enter = GridConv(width, width)
        self.layers = nn.ModuleList(GatedLayer(width, GridConv) for _ in range(CONDITION_LAYERS))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x, self.side)
        for layer in self.layers:
            x = layer(x, self.side)
        x = x.unflatten(1, (self.side, self.side)).permute(0, 3, 1, 2)  # [B, C, s, s]
        return F.interpolate(x, (self.window, self.window), mode="nearest").flatten(2).transpose(1, 2)
