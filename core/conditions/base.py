"""Conditions: what guides a picture, as prefix tokens for any window of the canvas (section 3.2.2).

Each condition answers one question, `prefix(window) -> [B or 1, P] int64`; a batch of one serves any
number of pictures and is computed once for all of them. A window may reach over the canvas's border; there the
condition goes on as `Window.rows` and `Window.columns` say.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..geometry import Window


class Condition(Protocol):
    """Anything that gives prefix tokens."""

    def prefix(self, window: Window) -> Tensor:
        """Tokens [B or 1, P] int64 that stand before the window's cells."""


@dataclass(frozen=True)
class TokenCondition:
    """Prefix tokens as they are, [B or 1, P] int64, whatever the window: scene layouts, an empty picture."""

    tokens: Tensor

    def prefix(self, window: Window) -> Tensor:
        """The tokens."""
        return self.tokens


@dataclass(frozen=True)
class StartToken:
    """Nothing guides the picture: a single start token."""

    token: int = 0

    def prefix(self, window: Window) -> Tensor:
        """The start token, whatever the window."""
        return torch.tensor([[self.token]])


def repeat(condition: Condition, times: int) -> Condition:
    """A condition of a batch, for `times` pictures each: all once, then all again. A batch of one serves any
    number already."""
    batched = {n: t for n, t in vars(condition).items() if isinstance(t, Tensor) and len(t) > 1}
    repeated = {n: t.repeat(times, *[1] * (t.ndim - 1)) for n, t in batched.items()}
    return dataclasses.replace(condition, **repeated)
