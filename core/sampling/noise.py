"""The random numbers of a draw: one for each cell *and code*, a pure function of (seed + image, row, column, code).

A draw is `argmax(warped logits + Gumbel noise)`, which is a draw from their softmax (the Gumbel-max trick). The noise
of a code stays when temperature, condition or weights change a little, and so mostly does the winner.

Counter-based: there is no state and nothing to store. A cell's two key words are hashed from the seed, row and column,
and each code's bits from the key words and the code, by rounds of multiplication and xor-shift (Wellons' lowbias32 and
triple32 constants) on int32, whose products wrap alike on every device.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

MAX_SEED = 2**63 - 1
DRAW = "gumbel-1"  # names this way to draw, in what an image remembers; a change of any number here is another
_MULTIPLIERS = (0x7FEB352D, 0x846CA68B)
_WORDS = 0x9E3779B9, 0x85EBCA6B  # where the two key words begin
_BELOW_ONE = 1 - 2.0**-24


def cell_keys(seed: int, batch: int, height: int, width: int, device: torch.device | None = None) -> Tensor:
    """The two key words of every cell, [2, B, h, w] int32; image b has those of `seed + b`.

    Raises:
        ValueError: a seed outside 0..2^63-1.
    """
    check_seed(seed)
    seeds = [(seed + image) % (MAX_SEED + 1) for image in range(batch)]
    low, high = (_int32([s >> shift for s in seeds], device).view(-1, 1, 1) for shift in (0, 32))
    rows, columns = (torch.arange(size, dtype=torch.int32, device=device) for size in (height, width))
    return torch.stack([_chain(_signed(start), low, high, rows.view(-1, 1), columns) for start in _WORDS])


def gumbel(keys: Tensor, codes: int) -> Tensor:
    """Gumbel noise of every code at some cells: key words [2, ...] int32 -> [..., K] float32, -3.2 to 22.2.

    31 random bits k make v = (k + 1/2) / 2^31, and the noise -log(-log(1 - v)): large numbers, which decide, come from
    small v, where float32 is finest.
    """
    first, second = keys.unsqueeze(-1).unbind()
    bits = _code_words(codes, keys.device) + first  # [..., K]
    bits = _round(bits, 16, _MULTIPLIERS[0]).add_(second)
    bits = _xor_shift(_round(bits, 15, _MULTIPLIERS[1]), 16)
    v = bits.bitwise_and_(0x7FFFFFFF).float().add_(0.5).mul_(2.0**-31).clamp_(max=_BELOW_ONE)
    return v.neg_().log1p_().neg_().log_().neg_()


def check_seed(seed: int) -> None:
    """Raise ValueError for a seed outside 0..2^63-1."""
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed {seed} is out of range; choose 0 to {MAX_SEED}")


@functools.lru_cache(maxsize=16)
def _code_words(codes: int, device: torch.device) -> Tensor:
    """One word a code, [K] int32, far from those of its neighbors."""
    return _mix(torch.arange(codes, dtype=torch.int32, device=device))


def _chain(start: int, *words: Tensor) -> Tensor:
    """Hash words of shapes that broadcast, one after the other."""
    state = torch.full((), start, dtype=torch.int32, device=words[0].device)
    for word in words:
        state = _mix(state * _signed(_WORDS[0]) + word)
    return state


def _mix(x: Tensor) -> Tensor:
    """A bijection of int32 in which each bit in changes about half of the bits out."""
    return _xor_shift(_round(_round(x.clone(), 16, _MULTIPLIERS[0]), 15, _MULTIPLIERS[1]), 16)


def _round(x: Tensor, shift: int, multiplier: int) -> Tensor:
    """In place."""
    return _xor_shift(x, shift).mul_(_signed(multiplier))


def _xor_shift(x: Tensor, shift: int) -> Tensor:
    """In place; the sign does not follow the shifted bits."""
    return x.bitwise_xor_((x >> shift).bitwise_and_((1 << (32 - shift)) - 1))


def _int32(words: list[int], device: torch.device | None) -> Tensor:
    """The low 32 bits of each."""
    return torch.tensor([_signed(word & 0xFFFFFFFF) for word in words], dtype=torch.int32, device=device)


def _signed(word: int) -> int:
    """32 bits as the int32 that has them."""
    return word - 2**32 if word >= 2**31 else word
