"""temporary copy of the draft"""
from __future__ import annotations
from dataclasses import dataclass, replace
import torch
from torch import Tensor

@dataclass(frozen=True)
class Prefix:
    tokens: Tensor
    mask: Tensor | None = None
    per_cell: Tensor | None = None
    def __len__(self): return len(self.tokens)
    def _map(self, f): return Prefix(*(None if t is None else f(t) for t in (self.tokens, self.mask, self.per_cell)))
    def to(self, device): return self._map(lambda t: t.to(device))
    def expand(self, batch): return self._map(lambda t: t.expand(batch, *t.shape[1:]) if len(t)==1 else t)
