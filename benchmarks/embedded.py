"""The embedded model and real sketches: several codes a pass against one at a time, and against `generate`."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from ..core.canvas.canvas import Canvas
from ..core.conditions.base import Condition
from ..core.conditions.sketch import Sketch
from ..core.priors.base import Prior
from ..core.priors.llama import Llama, LlamaConfig
from ..core.sampling.loop import sample_steps
from ..core.sampling.settings import SamplingSettings
from ..core.sampling.state import SamplingState
from ..core.sampling.windows import Sliding
from .coupling import embedded_conditions, example_sketches
from .report import Report
from .sampling import gpt2_like, time_generate
from .timing import alternate

ABOUT = """\
The embedded model on lines and colors of the two example pictures, temperature 1, one picture of 256 cells each, in
the loop with all that belongs to it. *Several at a time* guesses and verifies as many codes a pass as pay, *one at a
time* is the same loop held to one; both give the same codes, and how often they don't is counted. `generate` is that
of the library transformers with its GPT-2 of equal size. The strided canvas has 16x32 cells, one picture twice side
by side. *Nothing to guess* is a prior of the same shape with random weights, its matrices so large that each code
hangs on all before it. *Codes a pass* counts passes over windows that stand still, with 16 cells a pass and with as
many as the loop chooses."""

SEVERAL, ONE = "several at a time", "one at a time"
WAYS = {SEVERAL: 0, ONE: 1}  # and the cells a pass; 0 chooses
DEEP, HEAD = 0.1, 1.0  # deviations of matrices: each code then changes all that follow


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


def chaotic_prior(config: LlamaConfig) -> Prior:
    """A prior whose codes can't be guessed."""
    torch.manual_seed(0)
    prior = Llama(config).eval().requires_grad_(False)
    for name, parameter in prior.named_parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=HEAD if name.startswith("output") else DEEP)
    return prior


def codes_a_pass(prior: Prior, conditions: list[Condition], canvas: Canvas, lookahead: int) -> float:
    """How many are decided in one, over one picture of each condition."""
    counted = Counted(prior)
    for condition in conditions:
        paint(counted, condition, canvas, 0, lookahead, Sliding())
    return int((~canvas.known).sum()) * len(conditions) / (counted.passes + len(conditions))


def tiled(sketch: Sketch, down: int, right: int) -> Sketch:
    """A sketch side by side with itself."""
    assert sketch.lines is not None
    assert sketch.colors is not None
    return Sketch(lines=sketch.lines.repeat(1, 1, down, right), colors=sketch.colors.repeat(1, 1, down, right))


def measure(quick: bool) -> Report:
    """Ratios of times, codes a pass, and codes that differ."""
    bundle, conditions = embedded_conditions()
    prior, side, chaotic = bundle.prior, bundle.prior.window, chaotic_prior(bundle.prior.config)
    wide = bundle.condition(tiled(example_sketches(bundle)[1], 1, 2), (side, 2 * side))
    window, strided = Canvas.empty(1, side, side), Canvas.empty(1, side, 2 * side)
    if quick:
        window, strided = (last_row_unknown(canvas) for canvas in (window, strided))
    found: dict[str, list[Tensor]] = {}

    def run(name: str, prior: Prior, conditions: list[Condition], canvas: Canvas, sliding: Sliding, at: int) -> float:
        start = time.perf_counter()
        found[name] = [paint(prior, condition, canvas, 0, at, sliding) for condition in conditions]
        return time.perf_counter() - start

    kinds = {
        "window": (prior, conditions, window, Sliding()),
        "stride 4": (prior, [wide], strided, Sliding(stride=4)),
        "nothing to guess": (chaotic, conditions[:1], window, Sliding()),
    }
    pairs = {f"{kind}, {way}": (*kinds[kind], at) for kind in kinds for way, at in WAYS.items()}
    candidates = {name: lambda name=name, work=work: run(name, *work) for name, work in pairs.items()}
    if not quick:
        theirs = gpt2_like(prior.config)
        candidates["window, generate"] = lambda: sum(time_generate(theirs, prior.config) for _ in conditions)
    times = alternate(candidates, 1 if quick else 2)
    ratios = {f"{kind}, {ONE} / {SEVERAL}": times[f"{kind}, {ONE}"] / times[f"{kind}, {SEVERAL}"] for kind in kinds}
    if not quick:
        ratios[f"window, generate / {SEVERAL}"] = times["window, generate"] / times[f"window, {SEVERAL}"]
    for name, at in (("16 cells a pass", 16), ("as chosen", 0)):
        ratios[f"codes a pass, {name}"] = codes_a_pass(prior, conditions, window, at)
    ratios["codes a pass, nothing to guess"] = codes_a_pass(chaotic, conditions[:1], window, 16)
    compared = [
        torch.equal(one, several)
        for kind in kinds
        for one, several in zip(found[f"{kind}, {ONE}"], found[f"{kind}, {SEVERAL}"], strict=True)
    ]
    ratios["pictures with the same codes, share"] = sum(compared) / len(compared)
    return Report("embedded", ABOUT, ratios, times)
