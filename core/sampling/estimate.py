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
from .loop import Run, SamplingState, check_fit, margin, schedule, visible, windows_in_memory
from .schedule import Stretch, batches
from .settings import SamplingSettings
from .windows import EXACT, Sliding


@dataclass(frozen=True)
class RunPlan:
    """A run before it starts."""

    cells: int  # draws of each picture
    windows: int  # windows to be read from their beginning
    rounds: int  # one after the other; what is in one round does not wait for the rest of it
    seconds: float  # estimated, on this machine as it is now
    memory: int  # bytes at most, beyond the models; estimated


def described(plan: RunPlan) -> str:
    """A plan in one line."""
    if not plan.cells:
        return "Nothing to paint: all cells are known"
    minutes = f"{plan.seconds:.0f} s" if plan.seconds < 100 else f"{plan.seconds / 60:.0f} min"
    return f"{plan.cells} cells through {plan.windows} windows: about {minutes}, {plan.memory / 2**20:.0f} MB"


@dataclass(frozen=True)
class Pace:
    """Seconds that the prior takes here."""

    token: float  # of a window that is read, one of many
    step: float  # one more cell of a window that stands still


@torch.inference_mode()
def plan_run(
    prior: Transformer, condition: Condition, canvas: Canvas, settings: SamplingSettings, sliding: Sliding = EXACT
) -> RunPlan:
    """Look ahead; the arguments are those of the run, and nothing of it is done. Errors as `sample_steps`."""
    state = SamplingState.start(canvas, 0)
    check_fit(prior, condition, state, sliding)
    work = schedule(prior, condition, state, sliding)
    together = [batch for round_ in work for batch in batches(round_)]
    every = [stretch for batch in together for stretch in batch]
    cells = sum(visible(visit, state) for stretch in every for visit in stretch.visits)
    if not every:
        return RunPlan(0, 0, 0, 0.0, 0)
    pictures = len(canvas.indices)
    sharing = pictures // len(condition.prefix(every[0].window))  # pictures that have one prefix
    beyond = margin(canvas.size[1], prior.config.window, sliding)
    run = Run(prior, condition, state, settings, beyond)
    readers = 1 if run.contrast is None else 2
    pace = measure_pace(run, together, pictures, sharing)
    seconds, read_to = 0.0, {}
    for batch in together:
        tokens = tokens_to_read(prior, batch, pictures, sharing, read_to)
        seconds += max(pace.token * tokens, pace.step) + pace.step * (len(batch[0].visits) - 1)
    fresh = sum(not stretch.resumes for stretch in every)
    kept = windows_in_memory(prior, condition, pictures) if any(stretch.kept for stretch in every) else 0
    memory = memory_of(prior, together, pictures, kept)
    return RunPlan(cells, fresh * readers, len(work), seconds * readers, memory * readers)


def tokens_to_read(prior: Transformer, batch: list[Stretch], pictures: int, sharing: int, read_to: dict) -> int:
    """Tokens that the first cell of a batch costs; `read_to` holds how far kept windows were read."""
    stretch = batch[0]
    first = stretch.places[0] - read_to.get(stretch.window, 0) if stretch.resumes else stretch.places[0]
    read_to[stretch.window] = stretch.places[-1]
    prefix = 0 if stretch.resumes else prior.config.prefix_length
    return len(batch) * (prefix * pictures // sharing + first * pictures)


def measure_pace(run: Run, together: list[list[Stretch]], pictures: int, sharing: int) -> Pace:
    """Read the window in the middle of the run twice, and decide up to four cells of one that stands still."""
    middle = together[len(together) // 2]
    longest = max(together, key=lambda batch: len(batch[0].visits))
    reads = []
    for batch in (middle, middle, longest):
        fresh = [replace(stretch, resumes=False, kept=False) for stretch in batch]
        events = run.reader.read(fresh)
        start = time.perf_counter()
        next(events)[0, 0].item()  # waits for a GPU to be done
        tokens = tokens_to_read(run.reader.prior, fresh, pictures, sharing, {})
        reads.append((time.perf_counter() - start) / tokens)
    next(events, None)  # the first step lays out the weights
    start, steps = time.perf_counter(), 0
    for _, logits in zip(range(4), events, strict=False):
        logits[0, 0].item()
        steps += 1
    return Pace(min(reads), (time.perf_counter() - start) / steps if steps else 0.0)


def memory_of(prior: Transformer, together: list[list[Stretch]], pictures: int, kept: int) -> int:
    """Bytes of remembered windows, of the largest batch at work, and of the weights' second layout."""
    config, element = prior.config, prior.pos_emb.element_size()
    one = 2 * config.layers * config.width * config.context  # numbers in the keys and values of one sequence
    largest = max(len(batch) for batch in together) * pictures
    decoded = [len(batch) * pictures for batch in together if len(batch[0].visits) > 1]
    copied = prior.pos_emb.is_cpu and max(decoded, default=0) > 2
    weights = 12 * config.layers * config.width**2 if copied else 0
    at_work = largest * config.context * config.width * 16  # the stream, q, k, v and the MLP's wide layers
    caches = (kept * pictures + max(decoded, default=0)) * one
    return element * (weights + at_work + caches)
