"""The one sampling loop: fill a canvas's unknown cells, each from the window around it (section 3.2).

    state = SamplingState.start(canvas, seed)
    for progress in sample_steps(prior, condition, state, settings):
        ...  # look at the state, show it, or stop: what is done stays in it

Common random numbers: each code of each cell of each image has its own noise, a function of the seed (`noise`). So a
seed gives one image whatever the batch around it, the order of the cells or the cache's state, and a small change of
the settings changes the image a little.

Exact parallel decoding (Wiggers and Hoogeboom 2020): with the noise fixed, a code follows from the codes before it.
So the next cells are guessed and evaluated in one pass; all draws up to the first that differs from its guess, that one
included, were made from right codes and are kept. The others are the next guesses.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ..canvas.canvas import Canvas
from ..conditions.base import Condition
from ..priors.base import Prior
from ..priors.threads import Threads, is_small
from .checks import check_inputs, guided_by, settings_on, temperature_map
from .evaluator import OpenWindows, WindowEvaluator
from .logits import apply_guidance, draw, warp
from .lookahead import Lookahead
from .noise import cell_keys, gumbel
from .rounds import rounds_of_run
from .schedule import CheckCancelled, Group, make_groups, right_padding
from .settings import SamplingSettings
from .state import Progress, SamplingState, is_pending
from .trace import SamplingTrace
from .windows import EXACT, Sliding

NOISE_CHUNK = 2**18  # numbers of noise worked out at a time; a single cell's cost hardly less than many


@torch.inference_mode()
def sample_steps(
    prior: Prior,
    condition: Condition,
    state: SamplingState,
    settings: SamplingSettings,
    sliding: Sliding = EXACT,
    trace: SamplingTrace | None = None,
    lookahead: int = 0,
    check_cancelled: CheckCancelled = bool,
) -> Iterator[Progress]:
    """Decide the unknown cells, each from the window around it; one event a draw.

    The codes are those of raster order (`windows.visits`), one cell after the other. A canvas of one window is
    filled in that order; on a larger one, cells that don't depend on one another take turns or go together. A cell
    known in some images of the batch and not in others is drawn in the others only. Several cells may be decided at
    once, and their events follow. Stopped at any event and started again, with the same arguments, it ends with the
    same codes.

    Args:
        trace: takes what the model expects at each cell of the first image.
        lookahead: cells to evaluate at a time; 0 chooses. The codes don't depend on it.
        check_cancelled: called while a large canvas is scheduled, before the first event; raises to end the run.
    Raises:
        ValueError: codes or a condition that don't fit the prior, guidance of a prior that has not learned to do
            without its condition, a temperature map of another size, a stride of more than half a window, or a
            canvas that wraps top to bottom only and is narrower than the window.
    """
    check_inputs(prior, condition, state, sliding)
    rounds, width = rounds_of_run(prior, condition, state, sliding, check_cancelled), state.indices.shape[2]
    groups = make_groups(rounds, width, width + right_padding(width, prior.window, state.wrap), prior.device)
    run = SamplingRun(prior, condition, state, settings, trace, lookahead)
    total = sum(group.cells for group in groups)
    done = 0
    for group in groups:
        for row, column in run.draw(group):
            done += 1
            yield Progress(done, total, row, column)


def sample(
    prior: Prior,
    condition: Condition,
    canvas: Canvas,
    seed: int,
    settings: SamplingSettings,
    sliding: Sliding = EXACT,
) -> SamplingState:
    """Fill a canvas and return the final state; arguments and errors as `sample_steps`."""
    state = SamplingState.start(canvas, seed)
    for _ in sample_steps(prior, condition, state, settings, sliding):
        pass
    return state


class SamplingRun:
    """The tensors and models of one run of the loop.

    All maps have the columns that a canvas narrower than the window is filled with to its right; the state's tensors
    become views of them. `padded` holds the codes, and guesses where none is decided.
    """

    def __init__(
        self,
        prior: Prior,
        condition: Condition,
        state: SamplingState,
        settings: SamplingSettings,
        trace: SamplingTrace | None = None,
        lookahead: int = 0,
    ):
        self.state = state
        self.settings, self.fixed = settings_on(settings, prior), lookahead
        batch, height, self.width = state.indices.shape
        self.codes, device = prior.codebook_size, prior.device
        self.threads = Threads(adapts=device.type == "cpu" and is_small(prior))
        extra = right_padding(self.width, prior.window, state.wrap)
        temperature = temperature_map(settings, batch, height, self.width)
        self.temperature = F.pad(temperature, (0, extra), "replicate").flatten(1).to(device)  # [B, cells]
        self.keys = cell_keys(state.seed, batch, height, self.width + extra, device).flatten(2)  # [2, B, cells]
        self.maps = self._widen(state, extra, device)
        self.trace = trace.widen(extra) if trace is not None else None
        self.padded = self.maps["indices"].clone()
        conditions, self.counts = guided_by(condition, settings)
        self.evaluator = WindowEvaluator(prior, conditions, self.padded.view(batch, height, -1))
        self.lookaheads: dict[int, Lookahead] = {}  # by the number of sequences side by side

    def _widen(self, state: SamplingState, extra: int, device: torch.device) -> dict[str, Tensor]:
        """The state's tensors with more columns, [B, cells]; the state keeps views of them."""
        wide = {name: F.pad(tensor.to(device), (0, extra)).contiguous() for name, tensor in state.tensors().items()}
        for name, tensor in wide.items():
            setattr(state, name, tensor[:, :, : self.width])
        return {name: tensor.flatten(1) for name, tensor in wide.items()}

    def draw(self, group: Group) -> Iterator[tuple[int, int]]:
        """Draw the cells of a group's segments side by side; yields row and column of each cell once it is decided."""
        windows, noise = self.evaluator.open(group.segments), _Noise(self, group)
        lookahead = self._lookahead(len(group.segments) * len(self.padded))
        length, done, guessed = len(group.places), 0, 0
        while done < length:
            backlog = max(0, group.places[done] - windows.done - 1)  # cells to evaluate before the first guess
            count = lookahead.choose(length - done, backlog)
            self._guess(group, guessed, done + count)
            guessed = max(guessed, done + count)
            began, opens = time.perf_counter(), windows.cache is None
            with self.threads.decode():
                decided = self._draw_pass(group, windows, noise, done, count)
            if not opens:  # what the prefix takes is another matter
                lookahead.note(count, decided, time.perf_counter() - began, backlog)
            self.state.passes += 1
            windows.rollback(group.places[done + decided - 1])
            yield from self._cells(group, done, done + decided)
            done += decided
        self.evaluator.close(group.segments, windows)

    def _lookahead(self, rows: int) -> Lookahead:
        return self.lookaheads.setdefault(rows, Lookahead(rows, self.fixed))

    def _cells(self, group: Group, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Row and column of a group's cells on the canvas, in order."""
        for visits in zip(*(segment.visits[start:end] for segment in group.segments), strict=True):
            yield from (visit[:2] for visit in visits if visit.column < self.width)

    def _guess(self, group: Group, start: int, end: int) -> None:
        """Guess cells that none was guessed for yet: as the cell above, or as what is drawn anew was before."""
        if start < end:
            numbers = group.numbers[:, start:end]
            guesses = self.padded[:, group.guesses[:, start:end]]  # [B, G, n]
            self.padded[:, numbers] = torch.where(self._pending(group, numbers), guesses, self.padded[:, numbers])

    def _pending(self, group: Group, numbers: Tensor) -> Tensor:
        """Where these cells are still to be drawn, [B, G, n] bool."""
        return is_pending(self.maps["draws"][:, numbers], self.maps["known"][:, numbers], group.pass_number)

    def _draw_pass(self, group: Group, windows: OpenWindows, noise: _Noise, start: int, count: int) -> int:
        """Evaluate and draw `count` cells of each segment; how many of the first are decided."""
        numbers = group.numbers[:, start : start + count]  # [G, m]
        logits = self._logits(group, windows, start, count)  # [G * B, m, K]
        temperature = _rows(self.temperature[:, numbers]).unsqueeze(2)
        own = noise(start, count)
        drawn = _images(draw(warp(logits, self.settings, temperature), own), len(numbers))  # [B, G, m]
        guesses = self.padded[:, numbers]
        pending = self._pending(group, numbers)
        codes = torch.where(pending, drawn, guesses)
        self.padded[:, numbers] = codes
        decided = _count_decided(codes == guesses) if count > 1 else 1
        first = slice(None, decided)
        self._record(group, start, codes[..., first], pending[..., first], logits[:, first], own[:, first])
        return decided

    def _logits(self, group: Group, windows: OpenWindows, start: int, count: int) -> Tensor:
        """Logits [G * B, m, K] of the next cells, guided where that is asked for."""
        first, end = group.places[start], group.places[start + count - 1]
        logits = windows.evaluate(end, end - first + 1)  # [C, G * B, last, K]
        if end - first + 1 > count:  # known cells lie between them
            logits = logits.index_select(2, group.places_at[start : start + count] - first)
        return apply_guidance(logits, self.counts)

    def _record(self, group: Group, start: int, codes: Tensor, pending: Tensor, logits: Tensor, noise: Tensor) -> None:
        """Note codes [B, G, n] where the draw was still to be made, and the statistics of logits [G * B, n, K]."""
        groups, count = len(group.segments), codes.shape[2]
        numbers = group.numbers[:, start : start + count]
        likely = logits.float().log_softmax(-1)
        entropy = torch.special.entr(likely.exp()).sum(-1)
        chosen = likely.gather(-1, _rows(codes).unsqueeze(-1)).squeeze(-1)
        values = {"entropy": _images(entropy, groups), "log_probability": _images(chosen, groups)}
        values |= {"indices": codes, "draws": torch.full_like(codes, group.pass_number, dtype=torch.uint8)}
        for name, value in values.items():
            self.maps[name][:, numbers] = torch.where(pending, value, self.maps[name][:, numbers])
        self.maps["known"][:, numbers] = True
        if self.trace is not None:
            first = slice(None, None, len(self.padded))  # image of each group
            self.trace.note(numbers.flatten(), likely[first].flatten(0, 1), noise[first].flatten(0, 1))


class _Noise:
    """The noise of a group's cells, worked out some cells ahead."""

    def __init__(self, run: SamplingRun, group: Group):
        self.keys, self.codes = run.keys[:, :, group.numbers].transpose(1, 2).flatten(1, 2), run.codes  # [2, G * B, S]
        self.ahead = max(1, NOISE_CHUNK // (self.codes * self.keys.shape[1]))
        self.start, self.noise = 0, None  # [G * B, n, K] of the cells from start on

    def __call__(self, start: int, count: int) -> Tensor:
        """[G * B, m, K]"""
        if self.noise is None or start + count > self.start + self.noise.shape[1]:
            self.start = start
            self.noise = gumbel(self.keys[:, :, start : start + max(count, self.ahead)], self.codes)
        return self.noise[:, start - self.start : start - self.start + count]


def _count_decided(same: Tensor) -> int:
    """The cells up to the first whose draw is not its guess in all sequences: [B, G, m] bool. Waits for the device."""
    return min(int(same.all(0).all(0).cumprod(0).sum()) + 1, same.shape[2])


def _rows(values: Tensor) -> Tensor:
    """[B, G, m] -> [G * B, m]"""
    return values.transpose(0, 1).flatten(0, 1)


def _images(values: Tensor, groups: int) -> Tensor:
    """[G * B, m] -> [B, G, m]"""
    return values.view(groups, -1, values.shape[1]).transpose(0, 1)
