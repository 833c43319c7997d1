"""What the loop asks of a task."""

from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from .ema import MovingAverage


class Task(Protocol):
    """One stage's training: its modules, one update, its validation. `modules` and `optimizers` are
    prepared for the device by the loop before the first step."""

    modules: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    averaged: MovingAverage  # of modules["model"]
    extra_state: dict[str, Tensor]  # saved and restored with the run, changed in place; moved to the device by the loop
    stages: dict[str, str]  # fingerprints of the first stages whose codes are learned: a state of others is refused
    goal: tuple[str, int] | None  # the figure of `validate` that says which weights are best, and 1 if more is better,
    # or -1; None if none does: the last are exported

    def step(self, batches: list[Any], step: int, accelerator: Accelerator) -> dict[str, Tensor]:
        """One update from the micro-batches, without a wait for the device. What to log, and `made`: whether the
        weights were updated, bool, False where the loss was not finite."""

    def statistics(self) -> dict[str, float]:
        """What else to log, worked out when it is."""

    def validate(self) -> dict[str, float]:
        """Figures of the averaged weights on held-out data, of which each process takes a share."""

    def preview(self) -> dict[str, Tensor]:
        """Pictures [3, H, W] in -1..1 by name."""

    def health(self, report: dict[str, float]) -> str:
        """One sentence about how the run is doing, in plain words."""

    def export(self, folder: Path) -> Path:
        """Write the averaged weights as a model file."""
