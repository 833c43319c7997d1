"""A class label as the prefix."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..geometry import Window
from .base import Condition


@dataclass(frozen=True)
class ClassCondition:
    """One class label an image: labels [B or 1] int64, in 0..classes-1; `unconditional` stands for none, if the prior
    has learned that."""

    labels: Tensor
    classes: int
    offset: int = 0
    unconditional: Condition | None = None
    canvas_size = None

    def __post_init__(self):
        outside = self.labels[(self.labels < 0) | (self.labels >= self.classes)]
        if len(outside):
            raise ValueError(f"class label {int(outside[0])} does not exist; choose 0 to {self.classes - 1}")

    def prefix(self, window: Window) -> Tensor:
        """The label, whatever the window."""
        return self.labels[:, None] + self.offset
