"""Averaged weights."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


class MovingAverage(AveragedModel):
    """An exponential moving average of the weights whose decay grows from 0.1, to forget the start. It counts on the
    CPU: an update waits for no device."""

    def __init__(self, model: nn.Module, decay: float):
        super().__init__(model)
        self.decay = decay
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move towards the weights of `model`; the first time become them."""
        count = int(self.n_averaged)
        kept = min(self.decay, (1 + count) / (10 + count)) if count else 0.0
        torch._foreach_lerp_(list(self.module.parameters()), list(model.parameters()), 1 - kept)
        for mine, given in zip(self.module.buffers(), model.buffers(), strict=True):
            mine.copy_(given)
        self.n_averaged += 1


def make_ema(model: nn.Module, decay: float) -> MovingAverage:
    """The moving average of `model`, which it begins at."""
    return MovingAverage(model, decay)
