"""A bias of codes: one number for each, added to its logit at every draw.

What an image is painted with, and lists of codes to ban or to boost, become the same [K] numbers
(`SamplingSettings.bias`), so they add up. -inf bans a code. Only the draw changes: entropy and log-probability stay
the model's own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

RARE = 1e-3  # share of the commonest code's use that a code without any counts as
MAX_CODES = 2**20  # named in a list


def palette_bias(counts: Tensor, strength: float = 1.0, only: bool = False) -> Tensor:
    """Favor codes by how often they are used: counts [K], whole or not -> [K] float32, 0 for the commonest.

    Args:
        strength: 0 changes nothing; 1 multiplies each code's probability by its share of the commonest one's use.
        only: ban the codes of which there are none.
    Raises:
        ValueError: no code is used, or a strength below 0.
    """
    if not 0 <= strength < math.inf:
        raise ValueError(f"the strength is {strength:g}; choose 0 or more")
    if not (counts > 0).any():
        raise ValueError("the picture uses no code, so it has no palette; give one with known cells")
    bias = strength * (counts.double() / counts.max()).clamp(min=RARE).log().float()
    return bias.masked_fill(counts <= 0, -math.inf) if only else bias


def share_with_neighbors(counts: Tensor, codes: Tensor, reach: float) -> Tensor:
    """Count codes that resemble used ones too: a Gaussian of their distance in the codebook.

    Args:
        counts: [K], how often each code is used.
        codes: [K, D], the codebook.
        reach: its width, in distances from a used code to its nearest neighbor (their median); 0 changes nothing.
    Returns:
        [K]; codes farther than twice the width from all used ones stay at 0.
    """
    used = counts.nonzero().flatten()
    if reach == 0 or not len(used):
        return counts
    codes = codes.detach().double()
    distances = torch.cdist(codes[used], codes)  # [U, K]
    apart = distances.where(distances > 1e-9 * codes.abs().max(), torch.inf).amin(1)  # equal codes are one
    share = (distances / (reach * apart.median())).square().div(-2).exp()
    share = share.where(share >= math.exp(-2), 0.0)
    return torch.maximum(counts.double(), counts[used].double() @ share)


def listed_bias(size: int, ban: list[int], boost: list[int], strength: float = 1.0) -> Tensor:
    """Ban codes, and make others exp(`strength`) times as likely: [size] float32.

    Raises:
        ValueError: a code beyond the codebook, or all of them banned.
    """
    for code in (*ban, *boost):
        if not 0 <= code < size:
            raise ValueError(f"code {code} is listed, the codebook has 0 to {size - 1}; leave it out")
    bias = torch.zeros(size)
    bias[boost] = strength
    bias[ban] = -math.inf
    if bool(bias.isneginf().all()):
        raise ValueError(f"all {size} codes are banned; leave at least one")
    return bias


def parse_codes(text: str) -> list[int]:
    """Numbers of codes as "3, 17, 40-60".

    Raises:
        ValueError: something else.
    """
    codes: list[int] = []
    for part in text.replace("\n", ",").split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if not part.strip():
            continue
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"{part.strip()[:40]!r} is no code; write numbers and ranges such as 3, 17, 40-60")
        start, end = int(first), int(last or first)
        if end < start or end - start + len(codes) > MAX_CODES:
            raise ValueError(f"{part.strip()[:40]!r} is no range of codes; write the lower number first, as in 40-60")
        codes += range(start, end + 1)
    return codes


def add_bias(first: Tensor | None, second: Tensor) -> Tensor:
    """Both together, [K].

    Raises:
        ValueError: they are for different codebooks, or leave no code.
    """
    if first is None:
        return second
    if first.shape != second.shape:
        raise ValueError(
            f"one bias is for {len(first)} codes and the other for {len(second)}; make both with the same model"
        )
    both = first + second
    if bool(both.isneginf().all()):
        raise ValueError("together the palettes and lists leave no code to paint with; ban fewer")
    return both
