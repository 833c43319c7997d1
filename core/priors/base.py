"""The prior protocol: what sampling, estimates and likelihoods may ask of any prior.

A prior is written `class Name(nn.Module, Prior)`, sets `config`, and ends its file with `KIND`, so that model files can
hold it (`kinds.py`).

A sequence is a prefix, then the cells of one window row by row. After n cells have been evaluated there are n + 1
predictions, of cells 0..n; the last cell of a window is predicted and never evaluated. Causal: a cell changes no
prediction at or before it. The same cells give the same logits, up to float noise, however they are split over calls.

Batches come in groups: a prefix has G rows and the cells G * E, the first E of which go on from prefix row 0, the next
E from row 1, and so on. Rows are images, windows side by side, and for guidance the unconditional prefixes.

Everything is on the prior's device, and nothing here waits for it: no `.item()`, no lists as indices. No gradients;
training has `forward(prefix, cells) -> [B, n, K]` of each module.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from ..prefix import Prefix


class Cache(Protocol):
    """A prior's cache of a window that stands still, made by `Prior.start`."""

    @property
    def cells(self) -> int:
        """How many were evaluated so far, in every row."""
        ...

    def rollback(self, cells: int) -> None:
        """Forget all but the first `cells` cells; the next ones are written over the others."""


class TokenDecoder(Protocol):
    """Evaluates the next cells of windows that stand still. It may hold the weights in another layout, so it is invalid
    after a weight update; create a new one."""

    def __call__(self, cells: Tensor, cache: Any, last: int | None = None) -> Tensor:
        """Cells [G * E, m] int64 that follow those of the cache, which grows by them.

        m is 1 to all cells of a window but one, mostly 1 to 32, and differs from call to call.

        Returns:
            [G * E, last, K], the predictions after the last `last` of them; None is all.
        """
        ...


class PriorConfig(Protocol):
    """The sizes of a prior; a frozen dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def window(self) -> int:
        """Cells a side."""
        ...

    @property
    def codebook_size(self) -> int:
        """K, the number of codes it predicts."""
        ...

    @property
    def vocab_size(self) -> int:
        """V, rows of the embedding: codes, then the prefix's own tokens."""
        ...

    @property
    def prefix_length(self) -> int:
        """P, tokens of a prefix, or the most of them."""
        ...


class Prior(Protocol):
    """A model of the next code of a window; an `nn.Module`.

    any_order: draws cells in the order that `Prefix.per_cell` gives.
    whole_canvas: its window is always the whole canvas, of any shape up to window**2 cells.
    order: the cells' numbers, row by row, in the order in which `start` and the decoder count them; None is as they
        are numbered.
    """

    config: PriorConfig
    any_order: bool = False
    whole_canvas: bool = False
    order: tuple[int, ...] | None = None

    @property
    def window(self) -> int:
        """Cells a side."""
        return self.config.window

    @property
    def codebook_size(self) -> int:
        """K, the number of codes it predicts."""
        return self.config.codebook_size

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.parameters()).dtype

    @abstractmethod
    def parameters(self) -> Iterator[nn.Parameter]:
        """Its weights."""
        ...

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Its weights by name."""
        ...

    @abstractmethod
    def check_prefix(self, prefix: Prefix) -> None:
        """Raise ValueError, with the value, the limit and the cure, for a prefix that this prior can't take. Asked once
        before work starts; it may read values back."""

    @abstractmethod
    def cache_bytes(self, cells: int, sharing: int = 1) -> int:
        """Bytes of one sequence's cache with room for `cells` cells, its prefix shared by `sharing` sequences."""
        ...

    @abstractmethod
    def work_bytes(self, sequences: int, steps: int) -> int:
        """Peak bytes beyond weights and caches: `start` on `sequences` whole windows, and a decoder for up to `steps`
        rows (sequences times cells) at a time."""
        ...

    @abstractmethod
    def start(self, prefix: Prefix, cells: Tensor, last: int = 1, room: int = 0) -> tuple[Tensor, Cache | None]:
        """Evaluate a prefix and the first n cells of its window.

        Args:
            prefix: G rows.
            cells: [G * E, n] int64, n from 0.
            last: how many predictions are wanted, 1..n + 1: those of cells n + 1 - last to n.
            room: cells that the cache is to hold in the end, at least n; 0 for no cache.
        Returns:
            Logits [G * E, last, K], and the cache or None.
        """
        ...

    @abstractmethod
    def decoder(self) -> TokenDecoder:
        """A decoder for the caches of `start`, of the weights as they are now."""
        ...
