"""What a run of the sampling loop will take, before it starts: windows, rounds, time and memory.

The count is exact, since the loop's schedule is known beforehand; time follows from a handful of real steps.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch

from ..canvas.canvas import Canvas
from ..conditions.base import Condition
from ..priors.transformer import Transformer
from .loop import SamplingRun, SamplingState, check_inputs, max_cached_windows, on_canvas, right_padding, schedule
from .schedule import Segment, batches
from .settings import SamplingSettings
from .windows import EXACT, Sliding


@dataclass(frozen=True)
class RunEstimate:
    """A run before it starts."""

    cells: int  # draws of each picture
    windows: int  # windows to be read from their beginning
    rounds: int  # one after the other; what is in one round does not wait for the rest of it
    seconds: float  # estimated, on this machine as it is now
    memory: int  # bytes at most, beyond the models; estimated

    def summary(self) -> str:
        """One line for people."""
        if not self.cells:
            return "Nothing to paint: all cells are known"
        minutes = f"{self.seconds:.0f} s" if self.seconds < 100 else f"{self.seconds / 60:.0f} min"
        return f"{self.cells} cells through {self.windows} windows: about {minutes}, {self.memory / 2**20:.0f} MB"


@dataclass(frozen=True)
class Throughput:
    """Seconds that the prior takes here."""

    token: float  # of a window that is read, one of many
    step: float  # one more cell of a window that stands still


@torch.inference_mode()
def estimate_run(
    prior: Transformer, condition: Condition, canvas: Canvas, settings: SamplingSettings, sliding: Sliding = EXACT
) -> RunEstimate:
    """Look ahead; the arguments are those of the run, and nothing of it is done. Errors as `sample_steps`."""
    state = SamplingState.start(canvas, 0)
    check_inputs(prior, condition, state, sliding)
    work = schedule(prior, condition, state, sliding)
    group = [batch for round_ in work for batch in batches(round_)]
    every = [stretch for batch in group for stretch in batch]
    cells = sum(on_canvas(visit, state) for stretch in every for visit in stretch.visits)
    if not every:
        return RunEstimate(0, 0, 0, 0.0, 0)
    images = len(canvas.indices)
    sharing = images // len(condition.prefix(every[0].window))  # pictures that have one prefix
    beyond = right_padding(canvas.size[1], prior.config.window, sliding)
    run = SamplingRun(prior, condition, state, settings, beyond)
    readers = 1 if run.unconditional is None else 2
    pace = measure_throughput(run, group, images, sharing)
    seconds, read_to = 0.0, {}
    for batch in group:
        tokens = tokens_to_read(prior, batch, images, sharing, read_to)
        seconds += max(pace.token * tokens, pace.step) + pace.step * (len(batch[0].visits) - 1)
    fresh = sum(not stretch.resumes for stretch in every)
    kept = max_cached_windows(prior, condition, images) if any(stretch.kept for stretch in every) else 0
    memory = estimate_memory(prior, group, images, kept)
    return RunEstimate(cells, fresh * readers, len(work), seconds * readers, memory * readers)


def tokens_to_read(prior: Transformer, batch: list[Segment], images: int, sharing: int, read_to: dict) -> int:
    """Tokens that the first cell of a batch costs; `read_to` holds how far kept windows were read."""
    stretch = batch[0]
    first = stretch.places[0] - read_to.get(stretch.window, 0) if stretch.resumes else stretch.places[0]
    read_to[stretch.window] = stretch.places[-1]
    prefix = 0 if stretch.resumes else prior.config.prefix_length
    return len(batch) * (prefix * images // sharing + first * images)


def measure_throughput(run: SamplingRun, group: list[list[Segment]], images: int, sharing: int) -> Throughput:
    """Read the window in the middle of the run twice, and decide up to four cells of one that stands still."""
    middle = group[len(group) // 2]
    longest = max(group, key=lambda batch: len(batch[0].visits))
    reads = []
    for batch in (middle, middle, longest):
        fresh = [replace(stretch, resumes=False, kept=False) for stretch in batch]
        events = run.evaluator.evaluate(fresh)
        start = time.perf_counter()
        next(events)[0, 0].item()  # waits for a GPU to be done
        tokens = tokens_to_read(run.evaluator.prior, fresh, images, sharing, {})
        reads.append((time.perf_counter() - start) / tokens)
    next(events, None)  # the first step lays out the weights
    start, steps = time.perf_counter(), 0
    for _, logits in zip(range(4), events, strict=False):
        logits[0, 0].item()
        steps += 1
    return Throughput(min(reads), (time.perf_counter() - start) / steps if steps else 0.0)


def estimate_memory(prior: Transformer, group: list[list[Segment]], images: int, kept: int) -> int:
    """Bytes of remembered windows, of the largest batch at work, and of the weights' second layout."""
    config, element = prior.config, prior.pos_emb.element_size()
    one = 2 * config.layers * config.width * config.context  # numbers in the keys and values of one sequence
    largest = max(len(batch) for batch in group) * images
    decoded = [len(batch) * images for batch in group if len(batch[0].visits) > 1]
    copied = prior.pos_emb.is_cpu and max(decoded, default=0) > 2
    weights = 12 * config.layers * config.width**2 if copied else 0
    at_work = largest * config.context * config.width * 16  # the stream, q, k, v and the MLP's wide layers
    caches = (kept * images + max(decoded, default=0)) * one
    return element * (weights + at_work + caches)
