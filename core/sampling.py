"""The one sampling loop: fill a canvas's unknown cells one after another (sections 3.2 and 3.2.3).

    state = SamplingState.start(canvas, seed)
    for progress in sample_steps(prior, condition, state, settings):
        ...  # look at the state, show it, or stop: what is done stays in it

Common random numbers: each cell of each picture has its own uniform number, drawn from the seed before
anything else. So a seed gives one picture whatever the batch around it or the cache's state, and a small
change of the settings changes the picture a little.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from .canvas import Canvas, load_tensors, save_tensors
from .conditioning import Condition
from .transformer import Transformer
from .warp import SamplingSettings, draw, warp
from .window import Window, window_around

LARGEST_SEED = 2**63 - 1


class Progress(NamedTuple):
    """Told after every cell."""

    done: int  # cells, of each picture
    total: int
    row: int
    column: int


@dataclass
class SamplingState:
    """A run of the loop at any moment, changed in place while it runs.

    indices [B, h, w] int64, known [B, h, w] bool, and two float maps [B, h, w] in nats over the cells it
    sampled (0 elsewhere): the model's `entropy` before each draw, and the `log_probability` it gave the code
    that was drawn. Both are of the model's own distribution, before warping.
    """

    indices: Tensor
    known: Tensor
    entropy: Tensor
    log_probability: Tensor
    seed: int

    @classmethod
    def start(cls, canvas: Canvas, seed: int) -> SamplingState:
        """Before the first cell. Picture b of the batch has the random numbers of `seed + b`.

        Raises:
            ValueError: a seed outside 0..2^63-1.
        """
        if not 0 <= seed <= LARGEST_SEED:
            raise ValueError(f"seed {seed} is out of range; choose 0 to {LARGEST_SEED}")
        blank = torch.zeros(canvas.indices.shape)
        return cls(canvas.indices.clone(), canvas.known.clone(), blank, blank.clone(), seed)

    @property
    def canvas(self) -> Canvas:
        """What is decided so far."""
        return Canvas(self.indices.clone(), self.known.clone())

    def uniforms(self) -> Tensor:
        """The random number of every cell, [B, h, w] in 0..1; always drawn on the CPU, so devices agree."""
        batch, height, width = self.indices.shape
        seeds = [(self.seed + b) % (LARGEST_SEED + 1) for b in range(batch)]
        return torch.stack([torch.rand(height, width, generator=torch.Generator().manual_seed(s)) for s in seeds])

    def move_to(self, device: torch.device) -> None:
        """Put all tensors on a device."""
        for name in ("indices", "known", "entropy", "log_probability"):
            setattr(self, name, getattr(self, name).to(device))

    def save(self, path: str | Path) -> None:
        """Write to a file from which `load` and `sample_steps` go on."""
        tensors = {name: value for name, value in vars(self).items() if name != "seed"}
        save_tensors(path, "sampling state", tensors, {"seed": str(self.seed)})

    @classmethod
    def load(cls, path: str | Path) -> SamplingState:
        """Read what `save` wrote; errors as `canvas.load_tensors`."""
        names = {"indices", "known", "entropy", "log_probability"}
        tensors, metadata = load_tensors(path, "sampling state", names)
        return cls(**tensors, seed=int(metadata["seed"]))


@torch.inference_mode()
def sample_steps(
    prior: Transformer, condition: Condition, state: SamplingState, settings: SamplingSettings
) -> Iterator[Progress]:
    """Decide the unknown cells in raster order, each from the window around it; one event a cell.

    A cell known in some pictures of the batch and not in others is drawn in the others only.

    Raises:
        ValueError: a canvas smaller than the window, codes or a condition that don't fit the prior, or a
            temperature map of another size.
    """
    device = prior.pos_emb.device
    side = prior.config.window
    batch, height, width = state.indices.shape
    check_fit(prior, condition, state)
    temperature = temperature_map(settings, batch, height, width).to(device)
    uniforms = state.uniforms().to(device)
    state.move_to(device)
    cells = (~state.known).any(0).nonzero().tolist()  # [(row, column), ...] in raster order
    window = None
    for done, (row, column) in enumerate(cells, 1):
        around = window_around(row, column, height, width, side)
        if around != window:
            window, seen = around, 0
            codes = window_cells(state.indices, window)  # a view: it follows what is drawn
            prefix = condition.prefix(window).to(device)
            cache = prior.new_cache(len(prefix))
            logits = prior.prefill(prefix, cache).expand(batch, -1)
            cache = cache.expand(batch)
        place = (row - window.top) * side + column - window.left  # the cell's number in its window
        if place == seen + 1:
            logits = prior.decode_one(codes[:, seen // side, seen % side], cache)
        elif place > seen:
            logits = prior.prefill(codes.flatten(1)[:, seen:place], cache)
        seen = place
        drawn = draw(warp(logits, settings, temperature[:, row, column, None]), uniforms[:, row, column])
        record(state, row, column, drawn, logits.float().log_softmax(-1))
        yield Progress(done, len(cells), row, column)


def sample(
    prior: Transformer, condition: Condition, canvas: Canvas, seed: int, settings: SamplingSettings
) -> SamplingState:
    """Fill a canvas without looking up; arguments and errors as `sample_steps`."""
    state = SamplingState.start(canvas, seed)
    for _ in sample_steps(prior, condition, state, settings):
        pass
    return state


def record(state: SamplingState, row: int, column: int, drawn: Tensor, log_probabilities: Tensor) -> None:
    """Note one cell's codes [B] and statistics, in the pictures where it was unknown."""
    new = ~state.known[:, row, column]  # [B]
    indices = state.indices[:, row, column]
    indices.copy_(torch.where(new, drawn, indices))
    entropy = torch.special.entr(log_probabilities.exp()).sum(-1)
    chosen = log_probabilities.gather(-1, drawn.unsqueeze(-1)).squeeze(-1)
    state.entropy[:, row, column] = torch.where(new, entropy, state.entropy[:, row, column])
    state.log_probability[:, row, column] = torch.where(new, chosen, state.log_probability[:, row, column])
    state.known[:, row, column] = True


def window_cells(indices: Tensor, window: Window) -> Tensor:
    """The canvas cells [B, h, w] under a window, as a view [B, window.height, window.width]."""
    return indices[:, window.top : window.top + window.height, window.left : window.left + window.width]


def temperature_map(settings: SamplingSettings, batch: int, height: int, width: int) -> Tensor:
    """The temperature of every cell, [B, h, w]; ValueError for a map that does not fit the canvas."""
    temperature = torch.as_tensor(settings.temperature, dtype=torch.float32)
    try:
        return temperature.expand(batch, height, width)
    except RuntimeError:
        raise ValueError(
            f"the temperature map has shape {tuple(temperature.shape)}, the canvas {batch} pictures of "
            f"{height}x{width} cells; scale the map to the canvas"
        ) from None


def check_fit(prior: Transformer, condition: Condition, state: SamplingState) -> None:
    """Raise ValueError before work starts where canvas, condition and prior don't belong together."""
    config = prior.config
    batch, height, width = state.indices.shape
    if min(height, width) < config.window:
        raise ValueError(
            f"the canvas has {height}x{width} cells, the prior's window {config.window}x{config.window}; "
            "use a canvas at least that large"
        )
    if (code := first_outside(state.indices, config.codebook_size)) is not None:
        raise ValueError(
            f"the canvas holds code {code}, the prior knows 0 to {config.codebook_size - 1}; "
            "encode the picture with the VQGAN of the same bundle"
        )
    made_for = getattr(condition, "canvas_size", (height, width))  # conditions that differ from place to place
    if tuple(made_for) != (height, width):
        raise ValueError(
            f"the condition was made for {made_for[0]}x{made_for[1]} cells, the canvas has {height}x{width}; "
            "use a canvas of the condition's size"
        )
    prefix = condition.prefix(Window(0, 0, config.window, config.window))
    if prefix.shape[1] != config.prefix_length or len(prefix) not in (1, batch):
        raise ValueError(
            f"the condition gives {len(prefix)} prefixes of {prefix.shape[1]} tokens, the prior takes 1 or {batch} "
            f"of {config.prefix_length}; use the condition that the prior was trained with"
        )
    if (token := first_outside(prefix, config.vocab_size)) is not None:
        raise ValueError(
            f"the condition holds token {token}, the prior knows 0 to {config.vocab_size - 1}; "
            "use the condition VQGAN of the same bundle"
        )


def first_outside(tokens: Tensor, number: int) -> int | None:
    """The first of the tokens that is not in 0..number-1, if there is one."""
    outside = tokens[(tokens < 0) | (tokens >= number)]
    return int(outside[0]) if len(outside) else None
