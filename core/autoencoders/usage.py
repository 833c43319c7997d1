"""How a codebook is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    pass

# The nearest-code search holds distances of so many codes to so many latents at once: 4 MB in float32
CODES_TILE, LATENTS_TILE = 2048, 512


class CodebookUsage(NamedTuple):
    """How well a codebook is used; `perplexity` is exp(entropy), between 1 and K."""

    usage: float  # share of the codes used at least once, 0..1
    perplexity: float
    dead: int  # codes never used


def codebook_usage(counts: Tensor) -> CodebookUsage:
    """Usage, perplexity and dead codes from how often each code was used, counts [K]."""
    counts = counts.double()
    dead = int((counts == 0).sum())
    probabilities = counts / counts.sum().clamp(min=1)
    entropy = -torch.special.xlogy(probabilities, probabilities).sum()
    return CodebookUsage(1 - dead / len(counts), float(entropy.exp()), dead)
