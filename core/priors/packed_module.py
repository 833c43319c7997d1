"""A module whose linear layers are laid out for a few rows; everything else is the module's own."""

from __future__ import annotations

import copy
from itertools import chain

from torch import Tensor, nn

from .packed_linear import pack_linear


class PackedLinear(nn.Module):
    """A linear layer for inputs of `rows` rows, with its leading dimensions counted together."""

    def __init__(self, layer: nn.Linear, rows: int):
        super().__init__()
        self.multiply = pack_linear(layer, rows)

    def forward(self, x: Tensor) -> Tensor:
        """[..., C_in] -> [..., C_out]"""
        return self.multiply(x.flatten(0, -2)).unflatten(0, x.shape[:-1])


def pack_module(module: nn.Module, rows: int) -> nn.Module:
    """`module`, which keeps its weights and must not change them, for inputs of `rows` rows (3 stands for any more)."""
    if not next(module.parameters()).is_cpu:
        return module
    shared = {id(tensor): tensor for tensor in chain(module.parameters(), module.buffers())}
    clone = copy.deepcopy(module, shared)
    for parent in list(clone.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Linear):
                setattr(parent, name, PackedLinear(child, rows))
    return clone
