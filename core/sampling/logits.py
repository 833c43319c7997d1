"""Reshaping the next-cell distribution: guidance, bias, temperature, top-k, top-p, min-p, then one draw.

Pure functions on float32 logits [..., V], applied in this order; each is off at its default.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .settings import MIN_TEMPERATURE, SamplingSettings


def apply_guidance(logits: Tensor, counts: Sequence[float]) -> Tensor:
    """Classifier-free guidance (arXiv 2207.12598, equation 6): log-probabilities given several conditions, mixed.

    Args:
        logits: [C, ..., V], given each of the conditions.
        counts: C numbers, 1 in all: for a guidance of g it is g with the condition and 1 - g without; see
            `checks.guided_by`.
    Returns:
        [..., V]; float32 if there are several conditions.
    """
    if len(logits) == 1:
        return logits[0]
    return torch.stack([count * one for count, one in zip(counts, logits.float().log_softmax(-1), strict=True)]).sum(0)


def warp(logits: Tensor, settings: SamplingSettings, temperature: Tensor | float) -> Tensor:
    """Apply all settings to logits [..., V]; `temperature` is a number or [..., 1], the bias on their device."""
    temperature = torch.as_tensor(temperature, dtype=torch.float32, device=logits.device).clamp(min=MIN_TEMPERATURE)
    logits = logits.float() if settings.bias is None else logits.float() + settings.bias
    logits = keep_top_k(logits / temperature, settings.top_k)
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


def draw(logits: Tensor, noise: Tensor) -> Tensor:
    """The code with the largest sum of logit and noise.

    With Gumbel noise (`noise.gumbel`) that is a draw from the softmax of the logits, and a small change of these
    moves few draws.

    Args:
        logits: [..., V], warped; -inf where a code is left out.
        noise: [..., V], finite.
    Returns:
        [...] int64 in 0..V-1.
    """
    return (logits + noise).argmax(-1)
