"""How sure a difference is, and how far apart two sets of pictures are."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

ROUNDS = 2000  # of the bootstrap


class Interval(NamedTuple):
    """A mean and the interval that holds it with a probability of 95 %."""

    mean: float
    low: float
    high: float


def bootstrap(differences: Tensor, seed: int = 0) -> Interval:
    """The mean of paired differences [N], one a drawing, and its percentile interval over resampled drawings."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(differences), (ROUNDS, len(differences)), generator=generator)
    means = differences.double()[chosen].mean(1)
    low, high = (means.quantile(share).item() for share in (0.025, 0.975))
    return Interval(differences.double().mean().item(), low, high)


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Squared maximum mean discrepancy of features [N, D] and [M, D], unbiased, by the cubic kernel of Binkowski et al.
    2018 (the kernel Inception distance, if the features were Inception's); it may fall below 0."""

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def mean_of_others(matrix: Tensor) -> Tensor:
        return (matrix.sum() - matrix.diagonal().sum()) / (len(matrix) * (len(matrix) - 1))

    a, b = a.double(), b.double()
    return (mean_of_others(kernel(a, a)) + mean_of_others(kernel(b, b)) - 2 * kernel(a, b).mean()).item()
