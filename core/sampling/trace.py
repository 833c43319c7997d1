"""What the model expected at each cell of one image, small enough to keep of every run and to send to a page.

A cell's distribution over K codes, before warping, is kept as its most likely codes, each as it is, and the rest in
order of probability as a few groups, each with the mean of its log-probabilities. Groups are the longer the
further down, so that any warp of the kept numbers is a good warp of the distribution itself. With it goes the noise
that the draw added, of a group the largest, so that the winner can be shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..storage.tensors import save_tensors

TOP_CODES = 64  # codes kept one by one
GROUPS = 32  # of the rest, at most


@dataclass
class SamplingTrace:
    """The distribution at every cell that was drawn, changed in place while a run goes on.

    codes [h, w, N] int32: the most likely ones, likeliest first.
    log_probabilities [h, w, N + G]: theirs, then the mean of each group; NaN where nothing was drawn.
    noise [h, w, N + G]: the noise of the codes (`noise.gumbel`), then the largest of each group.
    counts [N + G] int32: how many codes each of these stands for; 1 for the first N.
    """

    codes: Tensor
    log_probabilities: Tensor
    noise: Tensor
    counts: Tensor

    @classmethod
    def blank(cls, height: int, width: int, codes: int, device: torch.device | None = None) -> SamplingTrace:
        """Before anything is drawn, for cells that hold one of `codes` codes."""
        first = min(TOP_CODES, codes)
        reach = [first * (codes / first) ** (i / GROUPS) for i in range(GROUPS + 1)]  # in equal ratios
        ends = sorted({round(end) for end in reach})
        lengths = [after - before for before, after in pairwise(ends)]
        counts = torch.tensor([1] * first + lengths, dtype=torch.int32, device=device)
        return cls(
            torch.zeros(height, width, first, dtype=torch.int32, device=device),
            torch.full((height, width, len(counts)), float("nan"), device=device),
            torch.zeros(height, width, len(counts), device=device),
            counts,
        )

    def widen(self, columns: int) -> SamplingTrace:
        """A trace of a wider grid, of which this one's tensors become a part."""
        names = ("codes", "log_probabilities", "noise")
        wide = [F.pad(getattr(self, name), (0, 0, 0, columns)) for name in names]
        for name, tensor in zip(names, wide, strict=True):
            setattr(self, name, tensor[:, : self.codes.shape[1]])
        codes, log_probabilities, noise = wide
        return SamplingTrace(codes, log_probabilities, noise, self.counts)

    @cached_property
    def members(self) -> tuple[Tensor, Tensor]:
        """Which codes, by their place in order of probability, each group holds, and what each counts in its mean:
        [G, longest]; shorter groups hold their last code more than once, counted once."""
        lengths = self.counts[self.codes.shape[2] :].tolist()
        starts = [self.codes.shape[2] + sum(lengths[:i]) for i in range(len(lengths))]
        longest = range(max(lengths, default=0))
        places = [[start + min(i, n - 1) for i in longest] for start, n in zip(starts, lengths, strict=True)]
        shares = [[(i < n) / n for i in longest] for n in lengths]
        device = self.counts.device
        return torch.tensor(places, device=device, dtype=torch.long), torch.tensor(shares, device=device)

    def note(self, cells: Tensor, log_probabilities: Tensor, noise: Tensor) -> None:
        """Keep what some cells were drawn from: cells [n], numbered row by row, and [n, K] each of the others."""
        ordered, order = log_probabilities.sort(descending=True, stable=True)
        noise, first = noise.gather(1, order), self.codes.shape[2]
        values = {"codes": order[:, :first].int(), "log_probabilities": ordered[:, :first], "noise": noise[:, :first]}
        if len(self.counts) > first:
            places, shares = self.members
            means, largest = (ordered[:, places] * shares).sum(2), noise[:, places].amax(2)  # [n, G]
            values["log_probabilities"] = torch.cat([values["log_probabilities"], means], 1)
            values["noise"] = torch.cat([values["noise"], largest], 1)
        for name, value in values.items():
            getattr(self, name).flatten(0, 1)[cells] = value

    def save(self, path: str | Path, colors: Tensor, stride: int) -> None:
        """Write it with what explains it, for `web/js`.

        Args:
            colors: [K, 3] uint8, what codes look like.
            stride: pixels from cell to cell.
        """
        names = ("codes", "log_probabilities", "noise", "counts")
        tensors = {name: getattr(self, name) for name in names} | {"colours": colors}
        save_tensors(path, "forecast", tensors, {"stride": str(stride)})
