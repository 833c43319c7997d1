"""The embedded model and real edges: several codes a pass against one at a time, and against `generate`."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from ..core.canvas.canvas import Canvas
from ..core.conditions.base import Condition
from ..core.conditions.edges import canny
from ..core.priors.base import Prior
from ..core.sampling.loop import sample_steps
from ..core.sampling.settings import SamplingSettings
from ..core.sampling.state import SamplingState
from ..core.sampling.windows import Sliding
from .coupling import embedded_conditions, example_images
from .report import Report
from .sampling import gpt2_like, time_generate
from .timing import alternate

ABOUT = """\
The embedded model on the edges of the two example pictures, temperature 1, one picture of 256 cells each, in the loop
with all that belongs to it. *Several at a time* guesses and verifies as many codes a pass as pay, *one at a time* is
the same loop held to one; both give the same codes, and how often they don't is counted. `generate` is that of the
library transformers with its GPT-2 of equal size. The strided canvas has 16x48 cells, the edges of one picture three
times side by side. *Codes a pass* counts passes over windows that stand still; with at most 16 cells a pass, and as
many as the loop chooses."""


class Counted:
    """A prior that counts the passes of its decoders."""

    def __init__(self, prior: Prior):
        self.prior, self.passes = prior, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.prior, name)

    def decoder(self) -> Any:
        """The prior's own, counted."""
        decode = self.prior.decoder()

        def counted(cells: Tensor, cache: Any, last: int | None = None) -> Tensor:
            self.passes += 1
            return decode(cells, cache, last)

        return counted


def paint(prior: Prior, condition: Condition, canvas: Canvas, seed: int, lookahead: int, sliding: Sliding) -> Tensor:
    """The codes of one run."""
    state = SamplingState.start(canvas, seed)
    for _ in sample_steps(prior, condition, state, SamplingSettings(), sliding, lookahead=lookahead):
        pass
    return state.indices


def last_row_unknown(canvas: Canvas) -> Canvas:
    """All known but the last row."""
    unknown = torch.zeros(canvas.size, dtype=torch.bool)
    unknown[-1] = True
    return Canvas.filled(canvas.indices).forget(unknown)


def measure(quick: bool) -> Report:
    """Ratios of times, codes a pass, and codes that differ."""
    bundle, conditions = embedded_conditions()
    image = example_images(bundle)[1]
    wide = bundle.condition(canny(image).repeat(1, 1, 1, 3))
    prior, side = bundle.prior, bundle.prior.window
    window, strided = Canvas.empty(1, side, side), Canvas.empty(1, side, 3 * side)
    if quick:
        window, strided = (last_row_unknown(canvas) for canvas in (window, strided))
    seeds, found = range(1 if quick else 4), {}

    def run(name: str, lookahead: int) -> float:
        start = time.perf_counter()
        found[name] = [paint(prior, c, window, seed, lookahead, Sliding()) for c in conditions for seed in seeds]
        return time.perf_counter() - start

    def run_strided(name: str, lookahead: int) -> float:
        start = time.perf_counter()
        found[name] = [paint(prior, wide, strided, seed, lookahead, Sliding(stride=4)) for seed in seeds[:1]]
        return time.perf_counter() - start

    candidates = {
        "several at a time": lambda: run("several", 0),
        "one at a time": lambda: run("one", 1),
        "stride 4, several at a time": lambda: run_strided("strided several", 0),
        "stride 4, one at a time": lambda: run_strided("strided one", 1),
    }
    if not quick:
        theirs = gpt2_like(prior.config)
        candidates["generate"] = lambda: sum(time_generate(theirs, prior.config) for _ in conditions for _ in seeds)
    times = alternate(candidates, 1 if quick else 2)
    ratios = {
        "one at a time / several": times["one at a time"] / times["several at a time"],
        "stride 4, one at a time / several": times["stride 4, one at a time"] / times["stride 4, several at a time"],
    }
    if not quick:
        ratios["generate / several"] = times["generate"] / times["several at a time"]
    for name, lookahead in (("at most 16 cells", 16), ("as chosen", 0)):
        counted, cells = Counted(prior), 0
        for condition in conditions:
            for seed in seeds:
                paint(counted, condition, window, seed, lookahead, Sliding())
                cells += int((~window.known).sum())
        ratios[f"codes a pass, {name}"] = cells / (counted.passes + len(conditions) * len(seeds))
    pairs = [("one", "several"), ("strided one", "strided several")]
    compared = [(a, b) for one, other in pairs for a, b in zip(found[one], found[other], strict=True)]
    ratios["pictures with the same codes, share"] = sum(torch.equal(a, b) for a, b in compared) / len(compared)
    return Report("embedded", ABOUT, ratios, times)
