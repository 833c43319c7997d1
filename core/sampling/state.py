"""A run of the sampling loop at any moment, and its statistics as masks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..canvas.canvas import Canvas
from ..canvas.canvas_file import canvas_from, canvas_metadata
from ..canvas.masks import cells_to_mask
from ..geometry import Wrap
from ..storage.tensors import load_tensors, save_tensors
from .noise import check_seed


class Progress(NamedTuple):
    """Progress event, yielded once for each cell drawn."""

    done: int  # draws, of each image
    total: int
    row: int
    column: int


@dataclass
class SamplingState:
    """A run of the loop at any moment, changed in place while it runs.

    given: the canvas it began with, whose wrap, padding and provenance stay.
    indices [B, h, w] int64, known [B, h, w] bool: what is decided.
    entropy, log_probability [B, h, w] float, in nats, 0 at cells that were not sampled: the model's entropy before the
        draw, and the log-probability it gave the code drawn; both of its own distribution, before warping.
    draws [B, h, w] uint8: how often each cell was drawn; 0 where it was given.
    passes: of the prior, since the state was made or read; several cells may be decided in one.
    """

    given: Canvas
    indices: Tensor
    known: Tensor
    entropy: Tensor
    log_probability: Tensor
    seed: int
    draws: Tensor
    passes: int = field(default=0, init=False)

    @classmethod
    def start(cls, canvas: Canvas, seed: int) -> SamplingState:
        """Before the first cell. Image b of the batch has the random numbers of `seed + b`.

        Raises:
            ValueError: a seed outside 0..2^63-1.
        """
        check_seed(seed)
        blank = torch.zeros(canvas.indices.shape)
        return cls(canvas, canvas.indices.clone(), canvas.known.clone(), blank, blank.clone(), seed, blank.byte())

    @property
    def canvas(self) -> Canvas:
        """What is decided so far."""
        return self.given.with_cells(self.indices, self.known)

    @property
    def wrap(self) -> Wrap:
        """Borders at which the canvas goes on with its other end."""
        return self.given.wrap

    def pending(self, number: int) -> Tensor:
        """Where the draw of this number (1 is the first) is still to be made, [B, h, w] bool."""
        return is_pending(self.draws, self.known, number)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def move_to(self, device: torch.device) -> None:
        """Put all tensors on a device."""
        for name, value in self.tensors().items():
            setattr(self, name, value.to(device))

    def save(self, path: str | Path) -> None:
        """Write to a file from which `load` and `sample_steps` go on."""
        save_tensors(path, "sampling state", self.tensors(), {"seed": str(self.seed), **canvas_metadata(self.given)})

    @classmethod
    def load(cls, path: str | Path) -> SamplingState:
        """Read what `save` wrote; errors as `storage.tensors.load_tensors`."""
        names = {"indices", "known", "entropy", "log_probability", "draws"}
        tensors, metadata = load_tensors(path, "sampling state", names)
        known = tensors["known"] & (tensors["draws"] == 0)
        given = canvas_from(tensors["indices"].clone(), known, metadata, Path(path).name)
        return cls(given=given, seed=int(metadata["seed"]), **tensors)


def is_pending(draws: Tensor, known: Tensor, number: int) -> Tensor:
    """Which cells are to be drawn for the `number`-th time: known ones that never were are given, and stay."""
    return (draws < number) & (~known | (draws > 0))


def statistics_masks(state: SamplingState, canvas: Canvas, codes: int, stride: int) -> tuple[Tensor, Tensor]:
    """Entropy and surprise (-log p of the code drawn) of a run as masks as large as the decoded image.

    Args:
        codes: of the codebook. Both are shares of log(codes), what a blind guess has; surprise can be above 1.
    Returns:
        Two [B, H, W]; 0 where cells were known before.
    """
    blind = math.log(max(2, codes))
    entropy = cells_to_mask(state.entropy / blind, canvas, stride)
    return entropy, cells_to_mask(-state.log_probability / blind, canvas, stride)
