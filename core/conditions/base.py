"""Conditions: what guides an image, as the prefix of any window of the canvas (section 3.2).

Each condition answers one question, `prefix(window)`: tokens [B or 1, P] int64, or a `Prefix` with vectors, a mask or
something added per cell; a batch of one serves any number of images and is computed once for all of them. A window may
reach over the canvas's border; there the condition goes on as `Window.rows` and `Window.columns` say.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..geometry import Window
from ..prefix import Prefix


class Condition(Protocol):
    """Anything that gives a prefix."""

    @property
    def canvas_size(self) -> tuple[int, int] | None:
        """The canvas it was made for, (h, w) in cells; None fits any."""
        ...

    @property
    def unconditional(self) -> Condition | None:
        """What the prior is given instead when nothing is to guide it; None where it has not learned that."""
        ...

    def prefix(self, window: Window) -> Tensor | Prefix:
        """What stands before the window's cells, and what is added at each of them."""
        ...


@runtime_checkable
class ConditionInParts(Condition, Protocol):
    """A condition of parts, by some of which guidance may go further than by others."""

    @property
    def partial(self) -> tuple[Condition, ...]:
        """Some of its parts only, each with more of them than the one before; the first has more than nothing."""
        ...

    @property
    def emphasis(self) -> tuple[float, ...]:
        """How far guidance goes, 1 being as far as the settings say, by what each of `partial` adds to the one before,
        and at last by what the whole adds to them."""
        ...


@dataclass(frozen=True)
class TokenCondition:
    """Prefix tokens as they are, [B or 1, P] int64, whatever the window: scene layouts, an empty image."""

    tokens: Tensor
    unconditional: Condition | None = None
    canvas_size = None

    def prefix(self, window: Window) -> Tensor:
        """The tokens."""
        return self.tokens


@dataclass(frozen=True)
class StartToken:
    """Nothing guides the image: a single start token."""

    token: int = 0
    canvas_size = None
    unconditional = None

    def prefix(self, window: Window) -> Tensor:
        """The start token, whatever the window."""
        return torch.tensor([[self.token]])


@dataclass(frozen=True)
class JointCondition:
    """Several conditions at once: their prefixes one after the other (token conditions; at most one adds per cell).

    A part may be left out where the prior has learned that: put its `unconditional` in its place.
    """

    parts: tuple[Condition, ...]

    @property
    def canvas_size(self) -> tuple[int, int] | None:
        """That of the first part that has one."""
        return next((part.canvas_size for part in self.parts if part.canvas_size is not None), None)

    @property
    def unconditional(self) -> JointCondition | None:
        """Every part left out; None where one of them can't be."""
        without = tuple(part.unconditional for part in self.parts if part.unconditional is not None)
        return JointCondition(without) if len(without) == len(self.parts) else None

    def prefix(self, window: Window) -> Prefix:
        """The parts' prefixes, one after the other."""
        prefixes = [Prefix.of(part.prefix(window)) for part in self.parts]
        rows = max(len(prefix) for prefix in prefixes)
        tokens = torch.cat([prefix.expand(rows).tokens for prefix in prefixes], 1)
        added = next((prefix.per_cell for prefix in prefixes if prefix.per_cell is not None), None)
        return Prefix(tokens, per_cell=added)


def repeat(condition: Condition, times: int) -> Condition:
    """A condition of a batch, for `times` images each: all once, then all again. A batch of one serves any number
    already."""
    return _repeated(condition, times)


def _repeated(value: Any, times: int) -> Any:
    """The tensors of a condition repeated along their batch, in its parts too; anything else as it is."""
    if isinstance(value, Tensor):
        return value.repeat(times, *[1] * (value.ndim - 1)) if len(value) > 1 else value
    if isinstance(value, tuple):
        return tuple(_repeated(part, times) for part in value)
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    parts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    parts.pop("unconditional", None)
    return dataclasses.replace(value, **{name: _repeated(part, times) for name, part in parts.items()})
