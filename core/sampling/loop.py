"""The one sampling loop: fill a canvas's unknown cells, each from the window around it (3.2 and 3.2.3).

    state = SamplingState.start(canvas, seed)
    for progress in sample_steps(prior, condition, state, settings):
        ...  # look at the state, show it, or stop: what is done stays in it

Common random numbers: each cell of each picture has its own uniform number, drawn from the seed before
anything else. So a seed gives one picture whatever the batch around it, the order of the cells or the cache's
state, and a small change of the settings changes the picture a little.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..canvas.canvas import Canvas
from ..conditions.base import Condition
from ..geometry import Window
from ..priors.transformer import Transformer
from ..storage.tensors import load_tensors, save_tensors
from .evaluator import WindowEvaluator
from .logits import apply_guidance, draw, warp
from .schedule import Segment, batches, mark_cached, schedule_rounds, split_segments
from .settings import SamplingSettings
from .trace import SamplingTrace
from .windows import EXACT, Sliding, Visit, visits

MAX_SEED = 2**63 - 1
MAX_CACHE_BYTES = 2**30  # bytes of windows kept for the row below


class Progress(NamedTuple):
    """Told after every draw of a cell."""

    done: int  # draws, of each picture
    total: int
    row: int
    column: int


@dataclass
class SamplingState:
    """A run of the loop at any moment, changed in place while it runs.

    indices [B, h, w] int64, known [B, h, w] bool, and two float maps [B, h, w] in nats over the cells it
    sampled (0 elsewhere): the model's `entropy` before each draw, and the `log_probability` it gave the code
    that was drawn. Both are of the model's own distribution, before warping. `draws` [B, h, w] uint8: how often
    each cell was drawn; 0 where it was given.
    """

    indices: Tensor
    known: Tensor
    entropy: Tensor
    log_probability: Tensor
    seed: int
    draws: Tensor | None = None  # always a tensor after construction

    def __post_init__(self):
        if self.draws is None:
            self.draws = torch.zeros_like(self.indices, dtype=torch.uint8)

    @classmethod
    def start(cls, canvas: Canvas, seed: int) -> SamplingState:
        """Before the first cell. Picture b of the batch has the random numbers of `seed + b`.

        Raises:
            ValueError: a seed outside 0..2^63-1.
        """
        if not 0 <= seed <= MAX_SEED:
            raise ValueError(f"seed {seed} is out of range; choose 0 to {MAX_SEED}")
        blank = torch.zeros(canvas.indices.shape)
        return cls(canvas.indices.clone(), canvas.known.clone(), blank, blank.clone(), seed)

    @property
    def canvas(self) -> Canvas:
        """What is decided so far."""
        return Canvas(self.indices.clone(), self.known.clone())

    def uniforms(self, right_padding: int = 0) -> Tensor:
        """The random number of every cell, [B, h, w + margin] in 0..1; always drawn on the CPU, so devices agree."""
        batch, height, width = self.indices.shape
        seeds = [(self.seed + b) % (MAX_SEED + 1) for b in range(batch)]
        generators = [torch.Generator().manual_seed(s) for s in seeds]
        drawn = [[torch.rand(height, wide, generator=g) for wide in (width, right_padding)] for g in generators]
        return torch.stack([torch.cat(pair, 1) for pair in drawn])

    def pending(self, number: int) -> Tensor:
        """Where the draw of this number (1 is the first) is still to be made, [B, h, w] bool."""
        return is_pending(self.draws, self.known, number)

    def move_to(self, device: torch.device) -> None:
        """Put all tensors on a device."""
        for name, value in vars(self).items():
            if name != "seed":
                setattr(self, name, value.to(device))

    def save(self, path: str | Path) -> None:
        """Write to a file from which `load` and `sample_steps` go on."""
        tensors = {name: value for name, value in vars(self).items() if name != "seed"}
        save_tensors(path, "sampling state", tensors, {"seed": str(self.seed)})

    @classmethod
    def load(cls, path: str | Path) -> SamplingState:
        """Read what `save` wrote; errors as `canvas.load_tensors`."""
        names = {"indices", "known", "entropy", "log_probability", "draws"}
        tensors, metadata = load_tensors(path, "sampling state", names)
        return cls(**tensors, seed=int(metadata["seed"]))


@torch.inference_mode()
def sample_steps(
    prior: Transformer,
    condition: Condition,
    state: SamplingState,
    settings: SamplingSettings,
    sliding: Sliding = EXACT,
    trace: SamplingTrace | None = None,
) -> Iterator[Progress]:
    """Decide the unknown cells, each from the window around it; one event a draw.

    The codes are those of raster order (`window.visits`), one cell after the other. A canvas of one window is
    filled in that order; on a larger one, cells that don't depend on one another take turns or go together. A cell
    known in some pictures of the batch and not in others is drawn in the others only. Stopped at any event and
    started again, with the same arguments, it ends with the same codes. What the model expects at each cell of the
    first picture goes to `trace`, if there is one.

    Raises:
        ValueError: codes or a condition that don't fit the prior, guidance of a prior that has not learned to do
            without its condition, a temperature map of another size, a stride of more than half a window, or a
            canvas that wraps top to bottom only and is narrower than the window.
    """
    check_inputs(prior, condition, state, sliding)
    work = schedule(prior, condition, state, sliding)
    total = sum(on_canvas(visit, state) for group in work for stretch in group for visit in stretch.visits)
    beyond = right_padding(state.indices.shape[2], prior.config.window, sliding)
    run = SamplingRun(prior, condition, state, settings, beyond, trace)
    done = 0
    for group in work:
        for batch in batches(group):
            for visit in run.draw(batch):
                done += 1
                yield Progress(done, total, visit.row, visit.column)


def sample(
    prior: Transformer,
    condition: Condition,
    canvas: Canvas,
    seed: int,
    settings: SamplingSettings,
    sliding: Sliding = EXACT,
) -> SamplingState:
    """Fill a canvas without looking up; arguments and errors as `sample_steps`."""
    state = SamplingState.start(canvas, seed)
    for _ in sample_steps(prior, condition, state, settings, sliding):
        pass
    return state


def schedule(prior: Transformer, condition: Condition, state: SamplingState, sliding: Sliding) -> list[list[Segment]]:
    """What is left to do, in rounds: see `wavefront`."""
    side, device = prior.config.window, prior.pos_emb.device
    batch, height, width = state.indices.shape
    board_width = width + right_padding(width, side, sliding)
    pending = {number: state.pending(number).any(0).tolist() for number in (1, 2, 3)}  # number -> [h][w]
    last = max((row for row in range(height) if any(pending[1][row])), default=0)

    def is_left(visit: Visit) -> bool:
        if visit.column >= width:  # only rows below look at the margin
            return visit.row < last
        return pending[visit.pass_number][visit.row][visit.column]

    left = (visit for visit in visits(height, board_width, side, sliding) if is_left(visit))
    work = split_segments(left, height, board_width)
    most = sliding.rows or rows_at_once(device, sliding)
    return mark_cached(schedule_rounds(work, height, board_width, most), max_cached_windows(prior, condition, batch))


def right_padding(width: int, side: int, sliding: Sliding) -> int:
    """Columns to fill to the right of a canvas narrower than the window; see `window`."""
    return 0 if sliding.wrap in ("x", "both") else max(side - width, 0)


def rows_at_once(device: torch.device, sliding: Sliding) -> int:
    """Rows that advance side by side. A processor is busy with one window, and gains by decoding together only."""
    if device.type != "cpu":
        return 16
    return 2 if sliding.stride == 1 else 4


def max_cached_windows(prior: Transformer, condition: Condition, batch: int) -> int:
    """How many windows to remember: what a second row needs that follows the first, within `MAX_CACHE_BYTES` bytes."""
    config = prior.config
    shared = config.prefix_length if len(condition.prefix(first_window(config.window))) < batch else 0
    tokens = shared + batch * (config.context - shared)
    size = 2 * config.layers * config.width * tokens * prior.pos_emb.element_size()
    return min(config.window // 2 + 1, MAX_CACHE_BYTES // size)


def first_window(side: int) -> Window:
    """The window at the upper left."""
    return Window(0, 0, side, side)


def on_canvas(visit: Visit, state: SamplingState) -> bool:
    """Whether a visit's cell is part of the canvas, not of its margin."""
    return visit.column < state.indices.shape[2]


class SamplingRun:
    """What one run of the loop works with. The board is the canvas with its margin; `state.indices` is part of it."""

    def __init__(
        self,
        prior: Transformer,
        condition: Condition,
        state: SamplingState,
        settings: SamplingSettings,
        beyond: int,
        trace: SamplingTrace | None = None,
    ):
        self.state, self.settings, self.trace = state, settings, trace
        device = prior.pos_emb.device
        batch, height, width = state.indices.shape
        temperature = temperature_map(settings, batch, height, width)
        self.temperature = F.pad(temperature, (0, beyond), "replicate").to(device)
        self.uniforms = state.uniforms(beyond).to(device)
        state.move_to(device)
        self.padded = F.pad(state.indices, (0, beyond)) if beyond else state.indices  # [B, h, w + beyond]
        state.indices = self.padded[:, :, :width]
        self.evaluator = WindowEvaluator(prior, condition, self.padded)
        unconditional = unconditional_of(condition, settings)
        self.unconditional = WindowEvaluator(prior, unconditional, self.padded) if unconditional is not None else None

    def logits(self, batch: list[Segment]) -> Iterator[Tensor]:
        """Logits [G * B, K] for each cell of stretches of the same shape, guided where that is asked for."""
        read = self.evaluator.evaluate(batch)
        if self.unconditional is None:
            return read
        pairs = zip(read, self.unconditional.evaluate(batch), strict=True)
        return (apply_guidance(logits, free, self.settings.guidance_scale) for logits, free in pairs)

    def draw(self, batch: list[Segment]) -> Iterator[Visit]:
        """Draw stretches of the same shape side by side; tells of each cell of the canvas once it is drawn."""
        for logits, at in zip(self.logits(batch), zip(*(s.visits for s in batch), strict=True), strict=True):
            rows, columns = [visit.row for visit in at], [visit.column for visit in at]
            # [B, G] -> [G * B]
            temperature, uniform = (m[:, rows, columns].t().flatten() for m in (self.temperature, self.uniforms))
            drawn = draw(warp(logits, self.settings, temperature.unsqueeze(1)), uniform)
            log_probabilities = logits.float().log_softmax(-1)
            images = len(self.padded)
            for visit, codes, likely in zip(at, drawn.split(images), log_probabilities.split(images), strict=True):
                if on_canvas(visit, self.state):
                    if self.trace is not None:
                        self.trace.note(visit.row, visit.column, likely[0])
                    record(self.state, visit, codes, likely)
                    yield visit
                else:
                    self.padded[:, visit.row, visit.column] = codes


def unconditional_of(condition: Condition, settings: SamplingSettings) -> Condition | None:
    """What guidance contrasts the condition with; None where there is no guidance.

    Raises:
        ValueError: guidance without a condition, or of a prior that has not learned to do without it.
    """
    if settings.guidance_scale == 1:
        return None
    unconditional = condition.unconditional
    if unconditional is None:
        raise ValueError(
            f"guidance is {settings.guidance_scale:g}, but nothing guides the picture, or this model has not learned "
            "to paint without what does; leave guidance at 1"
        )
    return unconditional


def is_pending(draws: Tensor, known: Tensor, number: int) -> Tensor:
    """Which cells are to be drawn for the `number`-th time: known ones that never were are given, and stay."""
    return (draws < number) & (~known | (draws > 0))


def record(state: SamplingState, visit: Visit, drawn: Tensor, log_probabilities: Tensor) -> None:
    """Note one cell's codes [B] and statistics, in the pictures where this draw was still to be made."""
    at = (slice(None), visit.row, visit.column)
    new = is_pending(state.draws[at], state.known[at], visit.pass_number)  # [B]
    entropy = torch.special.entr(log_probabilities.exp()).sum(-1)
    chosen = log_probabilities.gather(-1, drawn.unsqueeze(-1)).squeeze(-1)
    for name, value in (("indices", drawn), ("entropy", entropy), ("log_probability", chosen)):
        map_ = getattr(state, name)
        map_[at] = torch.where(new, value, map_[at])
    state.draws[at] = torch.where(new, visit.pass_number, state.draws[at])
    state.known[at] = True


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


def check_inputs(prior: Transformer, condition: Condition, state: SamplingState, sliding: Sliding = EXACT) -> None:
    """Raise ValueError before work starts where canvas, condition and prior don't belong together."""
    config = prior.config
    batch, height, width = state.indices.shape
    if sliding.stride > 1 and sliding.stride > config.window // 2:
        raise ValueError(
            f"a stride of {sliding.stride} cells is too long for the prior's window of {config.window}; "
            f"choose at most {max(1, config.window // 2)}"
        )
    if sliding.wrap == "y" and width < config.window:
        raise ValueError(
            f"the canvas is {width} cells wide and wraps top to bottom only, the prior's window is {config.window} "
            'wide; use a canvas at least that wide, or wrap "both"'
        )
    if (code := first_outside(state.indices, config.codebook_size)) is not None:
        raise ValueError(
            f"the canvas holds code {code}, the prior knows 0 to {config.codebook_size - 1}; "
            "encode the picture with the VQGAN of the same bundle"
        )
    made_for = condition.canvas_size or (height, width)  # conditions that differ from place to place
    if tuple(made_for) != (height, width):
        raise ValueError(
            f"the condition was made for {made_for[0]}x{made_for[1]} cells, the canvas has {height}x{width}; "
            "use a canvas of the condition's size"
        )
    prefix = condition.prefix(first_window(config.window))
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
