"""What the model expected at each cell of one picture, small enough to keep of every run and to send to a page.

A cell's distribution over K codes, before warping, is kept as its most likely codes, each as it is, and the rest in
order of probability as a few groups, each with the mean of its log-probabilities. Groups are the longer the
further down, so that any warp of the kept numbers is a good warp of the distribution itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from ..storage.tensors import save_tensors

TOP_CODES = 64  # codes kept one by one
GROUPS = 32  # of the rest, at most


@dataclass
class SamplingTrace:
    """The distribution at every cell that was drawn, changed in place while a run goes on.

    codes [h, w, N] int32: the most likely ones, likeliest first.
    log_probabilities [h, w, N + G]: theirs, then the mean of each group; NaN where nothing was drawn.
    counts [N + G] int32: how many codes each of these stands for; 1 for the first N.
    """

    codes: Tensor
    log_probabilities: Tensor
    counts: Tensor

    @classmethod
    def blank(cls, height: int, width: int, codes: int, device: torch.device | None = None) -> SamplingTrace:
        """Before anything is drawn, for cells that hold one of so many codes."""
        first = min(TOP_CODES, codes)
        reach = [first * (codes / first) ** (i / GROUPS) for i in range(GROUPS + 1)]  # in equal ratios
        ends = sorted({round(end) for end in reach})
        lengths = [after - before for before, after in pairwise(ends)]
        counts = torch.tensor([1] * first + lengths, dtype=torch.int32, device=device)
        return cls(
            torch.zeros(height, width, first, dtype=torch.int32, device=device),
            torch.full((height, width, len(counts)), float("nan"), device=device),
            counts,
        )

    def note(self, row: int, column: int, log_probabilities: Tensor) -> None:
        """Keep the distribution [K] at one cell."""
        ordered, order = log_probabilities.sort(descending=True, stable=True)  # as `warp.draw` counts
        groups = torch.arange(len(self.counts), device=self.counts.device).repeat_interleave(
            self.counts, output_size=len(ordered)
        )
        sums = torch.zeros(len(self.counts), device=self.counts.device).index_add_(0, groups, ordered)
        self.codes[row, column] = order[: self.codes.shape[-1]]
        self.log_probabilities[row, column] = sums / self.counts

    def save(self, path: str | Path, uniforms: Tensor, colors: Tensor, stride: int) -> None:
        """Write it with what explains it, for `web/js`.

        Args:
            uniforms: [h, w] the random number of each cell.
            colors: [K, 3] uint8, what codes look like.
            stride: pixels from cell to cell.
        """
        tensors = {**vars(self), "uniforms": uniforms, "colours": colors}
        save_tensors(path, "forecast", tensors, {"stride": str(stride)})
