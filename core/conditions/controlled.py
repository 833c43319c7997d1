"""A condition with control: what any condition gives as prefix, and control vectors for the cells of each window."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ..geometry import Window
from ..prefix import Prefix
from .base import Condition


@dataclass(frozen=True)
class ControlledCondition:
    """Control over a condition.

    base: gives the prefix: text, a class, words, nothing.
    control: [B or 1, h, w, N, C], of all cells of the canvas.
    strength: [B or 1, h, w], 0 (none) to 1 (as trained).
    """

    base: Condition
    control: Tensor
    strength: Tensor

    @property
    def canvas_size(self) -> tuple[int, int]:
        """(h, w) in cells."""
        return self.control.shape[1:3]

    @cached_property
    def scaled(self) -> Tensor:
        """Control as strong as it is to be."""
        return self.control * self.strength[..., None, None].to(self.control)

    def prefix(self, window: Window) -> Prefix:
        """The condition's prefix, and the control of the window's cells."""
        rows, columns = window.rows(self.canvas_size[0]), window.columns(self.canvas_size[1])
        base, control = Prefix.of(self.base.prefix(window)), self.scaled[:, rows][:, :, columns].flatten(1, 2)
        count = max(len(base), len(control))
        return replace(base.expand(count), per_cell=control.expand(count, -1, -1, -1))

    @property
    def unconditional(self) -> ControlledCondition | None:
        """Without the prompt and without control, as the released models learned it: both were left out together."""
        base = self.base.unconditional
        return None if base is None else replace(self, base=base, strength=torch.zeros_like(self.strength))
