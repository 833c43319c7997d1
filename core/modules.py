"""A list of modules that tells a type checker what it holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


class Stack(nn.ModuleList, Generic[Module]):
    """`nn.ModuleList` of modules of one class."""

    if TYPE_CHECKING:

        def __iter__(self) -> Iterator[Module]: ...

        def __getitem__(self, index: int) -> Module: ...
