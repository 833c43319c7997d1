"""A module whose linear layers are laid out for a few rows; everything else is the module's own."""

from __future__ import annotations

import copy
from itertools import chain
from typing import TypeVar

from torch import Tensor, nn

from .packed_linear import PackedLinear

Module = TypeVar("Module", bound=nn.Module)


class _Packed(nn.Module):
    """A linear layer for inputs of few rows, their leading dimensions counted together."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.multiply = PackedLinear(layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.multiply(x.flatten(0, -2)).unflatten(0, x.shape[:-1])


def pack_module(module: Module) -> Module:
    """A copy of `module` for inputs of few rows; it shares the weights, which must not change. On a GPU, itself."""
    if not next(module.parameters()).is_cpu:
        return module
    shared = {id(tensor): tensor for tensor in chain(module.parameters(), module.buffers())}
    clone = copy.deepcopy(module, shared)
    for parent in list(clone.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Linear):
                setattr(parent, name, _Packed(child))
    return clone
