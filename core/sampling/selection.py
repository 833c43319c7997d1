"""The likeliest of many pictures (the released code's rejection, by the prior's own measure)."""

import torch
from torch import Tensor

from .state import SamplingState


def mean_log_probability(state: SamplingState, was_known: Tensor) -> Tensor:
    """Mean over the cells that were sampled, nats a cell: [B], higher is likelier; 0 where none was.

    Args:
        was_known: [B, h, w] bool, the cells that were known before.
    """
    sampled = (~was_known).to(state.log_probability)
    return (state.log_probability * sampled).sum((1, 2)) / sampled.sum((1, 2)).clamp(min=1)


def best_of(scores: Tensor, groups: int, keep: int) -> Tensor:
    """Which of the pictures to keep, the best `keep` of each group, best first: [groups * keep] int64.

    Args:
        scores: [n * groups], of picture 0 of each group, then picture 1 of each, and so on.
    Raises:
        ValueError: fewer pictures than are to be kept.
    """
    candidates = len(scores) // groups
    check_choice(candidates, keep)
    order = scores.view(candidates, groups).argsort(dim=0, descending=True, stable=True)[:keep]  # [keep, groups]
    return (order * groups + torch.arange(groups)).flatten()


def check_choice(candidates: int, keep: int) -> None:
    """Raise ValueError unless `keep` of so many pictures can be kept; to be asked before they are made."""
    if not 1 <= keep <= candidates:
        raise ValueError(f"{keep} of {candidates} pictures can't be kept; choose 1 to {candidates}")
