"""Reshaping the next-cell distribution: guidance, temperature, top-k, top-p, min-p, then one draw.

Pure functions on float32 logits [..., V], applied in this order; each is off at its default.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

COLDEST = 1e-20  # temperatures below act like it: the most likely code wins, however close the next
HOTTEST = 100.0
STRONGEST = 20.0


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How boldly codes are drawn.

    temperature: 0 (always the most likely code) to 100; 1 is the model as trained. A number, or a map
        [h, w] or [B, h, w] with one value a cell.
    top_k: draw among the k most likely codes only; 0 is off.
    top_p: draw among the fewest codes that hold this share of the probability; 1 is off.
    min_p: leave out codes less likely than this share of the most likely one; 0 is off.
    guidance: how strongly the condition pulls, 0 to 20; 1 is the model as trained and off, 2 doubles what the
        condition changes. Takes twice the time, and a prior that has learned to do without its condition too.

    Raises ValueError for values out of range.
    """

    temperature: float | Tensor = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    guidance: float = 1.0

    def __post_init__(self):
        temperatures = torch.as_tensor(self.temperature, dtype=torch.float32)
        # NaN fails both comparisons
        if not bool(((temperatures >= 0) & (temperatures <= HOTTEST)).all()):
            worst = temperatures.flatten()[(~((temperatures >= 0) & (temperatures <= HOTTEST))).flatten()][0]
            raise ValueError(f"temperature {float(worst)} is out of range; choose 0 to {HOTTEST:g}")
        if not isinstance(self.top_k, int) or self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}; choose a whole number from 1, or 0 for off")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; choose a share above 0 and up to 1 (1 is off)")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p is {self.min_p}; choose a share from 0 (off) to 1")
        if not 0 <= self.guidance <= STRONGEST:
            raise ValueError(f"guidance is {self.guidance}; choose 0 to {STRONGEST:g}, 1 is off")


def guided(logits: Tensor, contrast: Tensor, guidance: float) -> Tensor:
    """Classifier-free guidance (Ho and Salimans 2022) of logits [B, V]: what the condition changes, times `guidance`.

    Args:
        logits: with the condition.
        contrast: without it.
    Returns:
        [B, V] float32.
    """
    free = contrast.float().log_softmax(-1)
    return free + guidance * (logits.float().log_softmax(-1) - free)


def warp(logits: Tensor, settings: SamplingSettings, temperature: Tensor | float) -> Tensor:
    """Apply all settings to logits [B, V] at one cell; `temperature` is a number or [B, 1]."""
    temperature = torch.as_tensor(temperature, dtype=torch.float32, device=logits.device).clamp(min=COLDEST)
    logits = keep_top_k(logits.float() / temperature, settings.top_k)
    return keep_min_p(keep_top_p(logits, settings.top_p), settings.min_p)


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Only the k largest logits survive (and those equal to the k-th); the rest become -inf."""
    if k == 0 or k >= logits.shape[-1]:
        return logits
    smallest_kept = logits.topk(k).values[..., -1:]
    return logits.masked_fill(logits < smallest_kept, -math.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Nucleus: the fewest codes, most likely first, whose probabilities reach p survive."""
    if p >= 1:
        return logits
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities  # mass of the more likely codes
    dropped = torch.empty_like(before, dtype=torch.bool).scatter_(-1, order, before >= p)
    return logits.masked_fill(dropped, -math.inf)


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Codes less likely than p times the most likely one become -inf."""
    if p == 0:
        return logits
    threshold = logits.amax(-1, keepdim=True) + math.log(p)
    return logits.masked_fill(logits < threshold, -math.inf)


def draw(logits: Tensor, uniform: Tensor) -> Tensor:
    """The code at height `uniform` of the cumulative distribution, most likely codes first.

    Ordering by probability makes the draw stable: a small change of the logits or of the temperature
    moves few draws, and uniform 0 is always the most likely code.

    Args:
        logits: [B, V].
        uniform: [B] in 0..1, below 1.
    Returns:
        [B] int64 in 0..V-1.
    """
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    cumulative = ordered.softmax(-1).cumsum(-1)  # [B, V]
    height = uniform.to(cumulative).unsqueeze(-1) * cumulative[..., -1:]
    place = torch.searchsorted(cumulative, height, right=True).clamp(max=logits.shape[-1] - 1)
    return order.gather(-1, place).squeeze(-1)
