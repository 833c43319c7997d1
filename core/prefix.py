"""The prefix: what stands before the cells of a window, and what is added at each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Prefix:
    """Prefixes of some windows, one a row; a single row serves any number of images.

    tokens: [B or 1, P] int64, rows of the prior's vocabulary; or vectors [B or 1, P, C] float, such as text features.
    mask: [B or 1, P] bool, False where a position is hidden from all others (padding); None hides none.
    per_cell: [B or 1, window**2, ...] float, something added for each cell of the window, in raster order: entry j
        belongs to the position that predicts cell j. None adds nothing.
    """

    tokens: Tensor
    mask: Tensor | None = None
    per_cell: Tensor | None = None

    @classmethod
    def of(cls, prefix: Tensor | Prefix) -> Prefix:
        """Plain tokens as a prefix."""
        return prefix if isinstance(prefix, Prefix) else cls(prefix)

    @classmethod
    def cat(cls, prefixes: Sequence[Prefix]) -> Prefix:
        """Row after row; ValueError where one has a mask, or something for each cell, and another has not."""
        parts = [[getattr(prefix, name) for prefix in prefixes] for name in ("tokens", "mask", "per_cell")]
        if any(len({part is None for part in same}) > 1 for same in parts):
            raise ValueError("prefixes with and without a mask, or something added per cell, can't share a batch")
        tokens, *added = (None if same[0] is None else torch.cat(same) for same in parts)
        assert tokens is not None  # every prefix has them
        return cls(tokens, *added)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def length(self) -> int:
        """P, its positions."""
        return self.tokens.shape[1]

    def to(self, device: torch.device) -> Prefix:
        """On a device."""
        return self._each(lambda part: part.to(device))

    def expand(self, rows: int) -> Prefix:
        """One row as `rows` equal ones; itself where it has as many."""
        return self if len(self) == rows else self._each(lambda part: part.expand(rows, *part.shape[1:]))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Prefix:
        added = (None if part is None else change(part) for part in (self.mask, self.per_cell))
        return Prefix(change(self.tokens), *added)


def check_tokens(prefix: Prefix, length: int, vocab_size: int) -> None:
    """Raise ValueError unless a prefix is `length` tokens of the vocabulary and nothing else."""
    tokens = prefix.tokens
    if tokens.is_floating_point() or prefix.mask is not None or prefix.per_cell is not None:
        raise ValueError("this prior takes tokens as its prefix, not vectors, a mask or something added per cell")
    if prefix.length != length:
        raise ValueError(
            f"the condition gives {len(prefix)} prefixes of {prefix.length} tokens, the prior takes {length}; "
            "use the condition that the prior was trained with"
        )
    outside = tokens[(tokens < 0) | (tokens >= vocab_size)]
    if len(outside):
        raise ValueError(
            f"the condition holds token {int(outside[0])}, the prior knows 0 to {vocab_size - 1}; "
            "use the condition VQGAN of the same bundle"
        )
