"""The cost of a run of the sampling loop, before it starts: windows, rounds, time and memory.

The counts are exact, since the loop's schedule is known beforehand; time follows from a handful of real passes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import islice

import torch

from ..canvas.canvas import Canvas
from ..conditions.base import Condition
from ..priors.base import Prior
from .checks import check_inputs, first_prefix
from .lookahead import CHOICES
from .loop import SamplingRun
from .rounds import rounds_of_run
from .schedule import CheckCancelled, Group, Segment, make_groups, max_cached_windows, right_padding
from .settings import SamplingSettings
from .state import SamplingState
from .windows import EXACT, Sliding

TRIAL = 16  # cells


@dataclass(frozen=True)
class RunEstimate:
    """A run before it starts."""

    cells: int  # draws of each image
    windows: int  # windows to be evaluated from their beginning
    rounds: int  # one after the other; what is in one round does not wait for the rest of it
    seconds: float  # estimated, on this machine as it is now
    memory: int  # bytes at most, beyond the models; estimated

    def summary(self) -> str:
        """All of it in one line."""
        if not self.cells:
            return "Nothing to paint: all cells are known"
        minutes = f"{self.seconds:.0f} s" if self.seconds < 100 else f"{self.seconds / 60:.0f} min"
        return f"{self.cells} cells through {self.windows} windows: about {minutes}, {self.memory / 2**20:.0f} MB"


@dataclass(frozen=True)
class Throughput:
    """Seconds of the prior on this machine."""

    token: float  # of a window that is read, one of many
    cell: float  # one more cell of a window that stands still


@torch.inference_mode()
def estimate_run(
    prior: Prior,
    condition: Condition,
    canvas: Canvas,
    settings: SamplingSettings,
    sliding: Sliding = EXACT,
    check_cancelled: CheckCancelled = bool,
) -> RunEstimate:
    """Estimate a run without starting it; arguments and errors as `sample_steps`."""
    state = SamplingState.start(canvas, 0)
    check_inputs(prior, condition, state, sliding)
    rounds, (images, _, width) = rounds_of_run(prior, condition, state, sliding, check_cancelled), canvas.indices.shape
    groups = make_groups(rounds, width, width + right_padding(width, prior.window, canvas.wrap), prior.device)
    if not groups:
        return RunEstimate(0, 0, 0, 0.0, 0)
    run = SamplingRun(prior, condition, state, settings)
    conditions, first = len(run.evaluator.conditions), first_prefix(prior, condition)
    sharing = images // len(first)  # images that have one prefix
    work = [_tokens_to_read(group, first.length, images, sharing, {}) for group in groups]
    throughput = measure_throughput(run, groups, work)
    seconds, read_to = 0.0, {}
    for group in groups:
        tokens = _tokens_to_read(group, first.length, images, sharing, read_to)
        seconds += max(throughput.token * tokens, throughput.cell) + throughput.cell * (len(group.places) - 1)
    segments = [segment for group in groups for segment in group.segments]
    windows = max(len(group.segments) for group in groups)
    kept = max_cached_windows(prior, condition, images) if any(segment.kept for segment in segments) else 0
    return RunEstimate(
        cells=sum(group.cells for group in groups),
        windows=conditions * sum(not segment.resumes for segment in segments),
        rounds=len(rounds),
        seconds=seconds,
        memory=sampling_memory(prior, images, conditions, windows, kept, sharing, windows * images * max(CHOICES)),
    )


def sampling_memory(
    prior: Prior, images: int, conditions: int = 1, windows: int = 1, kept: int = 0, sharing: int = 1, steps: int = 0
) -> int:
    """Bytes that sampling takes at most, beyond the weights: evaluating whole windows, and their caches.

    Args:
        conditions: that each window is evaluated with; two where there is guidance.
        windows: side by side.
        kept: windows whose caches are kept for the row below.
        sharing: images that have one prefix.
        steps: rows that are decoded at a time, for which a CPU lays out the weights anew; 0 leaves that out.
    """
    images *= conditions
    caches = (windows + kept) * images * prior.cache_bytes(prior.window**2, sharing)
    return caches + prior.work_bytes(windows * images, steps)


def measure_throughput(run: SamplingRun, groups: list[Group], work: list[int]) -> Throughput:
    """Read the window in the middle of the run twice, and decide up to `TRIAL` cells of one that stands still."""
    middle, reads = len(groups) // 2, []
    for _ in range(2):
        windows = run.evaluator.open([_fresh(segment) for segment in groups[middle].segments])
        began = time.perf_counter()
        windows.evaluate(groups[middle].places[0], 1)[..., 0].sum().item()  # waits for a GPU to be done
        reads.append((time.perf_counter() - began) / max(work[middle], 1))
    longest = max(groups, key=lambda group: len(group.places))
    longest = replace(longest, segments=[_fresh(segment) for segment in longest.segments])
    events = islice(run.draw(longest), 1 + TRIAL)
    next(events, None)  # reads the window, and lays out the weights
    began = time.perf_counter()
    steps = sum(1 for _ in events) / len(longest.segments)
    run.padded.sum().item()
    return Throughput(min(reads), (time.perf_counter() - began) / steps if steps else 0.0)


def _fresh(segment: Segment) -> Segment:
    """The same cells, read from the beginning."""
    return replace(segment, resumes=False, kept=False)


def _tokens_to_read(group: Group, prefix: int, images: int, sharing: int, read_to: dict) -> int:
    """Tokens that the first cell of a group costs; `read_to` holds how far kept windows were read."""
    segment = group.segments[0]
    first = segment.places[0] - read_to.get(segment.window, 0) if segment.resumes else segment.places[0]
    read_to[segment.window] = segment.places[-1]
    own = 0 if segment.resumes else prefix * images // sharing
    return len(group.segments) * (own + first * images)
