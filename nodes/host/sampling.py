"""Core's sampling loop under ComfyUI: bar, preview pictures, cancel, and going on after one or after an error."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from ...core.autoencoders.vqgan import VQGAN
from ...core.bundle import Bundle
from ...core.canvas.atlas import colors_in
from ...core.canvas.canvas import Canvas
from ...core.canvas.codec import decode_canvas
from ...core.conditions.base import Condition
from ...core.geometry import Wrap
from ...core.images.io import to_pil
from ...core.images.tiles import tile_images
from ...core.prepared import PreparedCondition, expand_batch, prepare_unconditional
from ...core.provenance import origin
from ...core.sampling.checks import guided_by
from ...core.sampling.estimate import RunEstimate, estimate_run
from ...core.sampling.loop import sample_steps
from ...core.sampling.settings import SamplingSettings, settings_for
from ...core.sampling.state import SamplingState
from ...core.sampling.trace import SamplingTrace
from ...core.sampling.windows import Sliding
from ...core.storage.fingerprint import fingerprint
from . import comfy, resume
from .handles import BundleHandle

SHOWN = 9  # pictures of a batch in a preview


class WindowChoice(NamedTuple):
    """How the window goes over a canvas, and where the canvas is to go on with its other end."""

    sliding: Sliding
    wrap: Wrap


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingRequest:
    """What a node asks for.

    condition: None guides by nothing.
    canvas: None is all unknown, as large as the condition or one window.
    settings: a temperature map in it is as painted, of any size.
    window: None moves it cell by cell, and wraps as the canvas does.
    seed: of the first picture; each of the others has the next one.
    pictures: of each condition and canvas.
    """

    model: BundleHandle
    condition: PreparedCondition | None = None
    canvas: Canvas | None = None
    settings: SamplingSettings = dataclasses.field(default_factory=SamplingSettings)
    window: WindowChoice | None = None
    seed: int = 0
    pictures: int = 1

    @property
    def sliding(self) -> Sliding:
        return self.window.sliding if self.window else Sliding()

    @property
    def wrap(self) -> Wrap:
        if self.window is not None:
            return self.window.wrap
        return "none" if self.canvas is None else self.canvas.wrap

    @property
    def key(self) -> str:
        """The same for requests that give the same pictures."""
        prepared, canvas = self.condition, self.canvas
        given = (self.model.name, prepared, canvas, self.settings, self.sliding, self.wrap, self.seed, self.pictures)
        return fingerprint(*given)

    def begin(self) -> tuple[Condition, Canvas, SamplingSettings]:
        """What the sampling loop takes, for as many images as are to be made."""
        prepared = self.condition
        try:
            prepared = prepared or prepare_unconditional(self.model.ready_without_condition(), self.canvas)
        except ValueError as error:
            raise ValueError(f"{error}; connect it to the input condition") from error
        condition, start = expand_batch(prepared, self.canvas, self.pictures)
        start = start.with_wrap(self.wrap)
        return condition, start, settings_for(self.settings, start)


@dataclasses.dataclass(frozen=True)
class Sampled:
    """A finished run: the canvas before and after, the statistics that `SamplingState` has, and the forecast of
    the first picture. It stays kept under its key until its pictures are made."""

    key: str
    start: Canvas
    canvas: Canvas
    state: SamplingState
    trace: SamplingTrace


def run(request: SamplingRequest, preview_every: int, bar: comfy.Progress | None = None) -> Sampled:
    """Fill a canvas; where the same run was cancelled or failed before, from there on. The estimated cost is reported
    first, if the canvas is larger than the window or wraps.

    Args:
        preview_every: cells from one preview picture to the next; 0 for none.
        bar: where several runs share one.
    """
    key, model, sliding = request.key, request.model, request.sliding
    condition, start, settings = request.begin()
    conditions = len(guided_by(condition, settings)[0])
    bundle = model.ready_to_sample(start, conditions)
    before = resume.kept.get(key)
    state = before.state if before else SamplingState.start(start, request.seed)
    trace = before.trace if before else blank_trace(bundle, start)
    large = max(start.size) > bundle.prior.window or request.wrap != "none"
    if large:
        plan = estimate_run(bundle.prior, condition, state.canvas, settings, sliding, comfy.stop_if_cancelled)
        comfy.say(plan.summary())
        model.ready_to_sample(start, conditions, plan.memory)
    remark, left = _remark(request, start), int((~start.known & (state.draws == 0)).sum())
    if remark or (left and not large):  # before the first preview, or the page lays the picture over what is said later
        comfy.say(remark or f"Painting {left} cells")
    bar, started, passes = bar or comfy.Progress(), time.monotonic(), state.passes

    steps = sample_steps(
        bundle.prior, condition, state, settings, sliding, trace, check_cancelled=comfy.stop_if_cancelled
    )
    try:
        for step in steps:
            due = preview_every and (step.done % preview_every == 0 or step.done == step.total)
            bar.step(step.done, step.total, (lambda: preview(bundle.vqgan, state.canvas)) if due else None)
    finally:  # whatever ends it, and until its pictures are made
        resume.keep(key, resume.Run(state, trace, start))
    state.move_to(torch.device("cpu"))  # canvases are small, and live there
    if left:
        each = left / len(start.indices) / (state.passes - passes)
        summary = f"{left} cells in {time.monotonic() - started:.1f} s", f"{each:.1f} codes a pass", remark
        comfy.say(" · ".join(filter(None, summary)))
    return Sampled(
        key, start, state.canvas.with_provenance(provenance_of(model, start, state, settings, sliding)), state, trace
    )


def _remark(request: SamplingRequest, start: Canvas) -> str:
    """What may surprise about a run, in a line; mostly empty."""
    if start.known.all():
        return "Nothing to paint: all cells are known; forget some first"
    kind = request.model.bundle.condition_config.kind
    if request.condition is None and kind not in ("none", "coordinates"):
        return f"Nothing guides this picture: the model paints freely; connect {kind} to guide it"
    return ""


def finish(*runs: Sampled) -> None:
    """The pictures of these runs are made, so that there is nothing to recall."""
    resume.finish(*(run.key for run in runs))


def provenance_of(
    model: BundleHandle, start: Canvas, state: SamplingState, settings: SamplingSettings, sliding: Sliding
) -> tuple[str, ...]:
    """How each picture was painted; what it was before where nothing was left to paint."""
    before = start.provenance or ("",) * len(start.indices)
    painted = state.draws.flatten(1).any(1).tolist()
    return tuple(
        origin(model.prior_fingerprint, state.seed + number, settings, sliding, state.wrap) if new else old
        for number, (new, old) in enumerate(zip(painted, before, strict=True))
    )


def blank_trace(bundle: Bundle, canvas: Canvas) -> SamplingTrace:
    """Where the prior works, for one picture of a canvas."""
    return SamplingTrace.blank(*canvas.size, bundle.prior.codebook_size, bundle.prior.device)


def save_trace(sampled: Sampled, images: Tensor, vqgan: VQGAN) -> Path:
    """Write what the panel of Sampling Settings shows of a run to a temporary file; `images` are its pictures."""
    config, path = vqgan.config, comfy.new_temporary_file("tessera_forecast", ".safetensors")
    colors = colors_in(sampled.canvas, images, config.codebook_size, config.stride)
    sampled.trace.save(path, colors, config.stride)
    return path


def plan(request: SamplingRequest) -> RunEstimate:
    """What `run` of the same request would take."""
    condition, start, settings = request.begin()
    bundle = request.model.ready_to_sample(start, len(guided_by(condition, settings)[0]))
    return estimate_run(bundle.prior, condition, start, settings, request.sliding, comfy.stop_if_cancelled)


def preview(vqgan: VQGAN, canvas: Canvas) -> Image.Image:
    """The first pictures of a canvas as far as they are known."""
    some = canvas.pick(torch.arange(min(SHOWN, len(canvas.indices))))
    with comfy.Cancellable():
        shown = decode_canvas(vqgan, some.with_cells(some.indices.cpu(), some.known.cpu()))
    return to_pil(tile_images(shown, gap=4))[0]


def sweep(request: SamplingRequest, settings: list[SamplingSettings], preview_every: int) -> list[Sampled]:
    """One run for each of the settings, under one bar; all have the same random numbers."""
    bars = comfy.Progress().shared(len(settings))
    return [
        run(dataclasses.replace(request, settings=one), preview_every, bar)
        for one, bar in zip(settings, bars, strict=True)
    ]
