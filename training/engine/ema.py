"""Averaged weights."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def make_ema(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of the weights whose decay grows from 0.1, to forget the start."""

    def average(old: Tensor, new: Tensor, count: Tensor | int) -> Tensor:
        count = float(count)
        return torch.lerp(old, new, 1 - min(decay, (1 + count) / (10 + count)))

    averaged = AveragedModel(model, avg_fn=average)
    averaged.requires_grad_(False).eval()
    return averaged
