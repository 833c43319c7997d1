"""Core's sampling loop under ComfyUI: bar, preview pictures, cancel, and going on after one or after an error."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ...core.autoencoders.vqgan import VQGAN
from ...core.bundle import Bundle
from ...core.canvas.atlas import colours_in
from ...core.canvas.canvas import Canvas
from ...core.canvas.codec import decode_canvas
from ...core.conditions.base import Condition
from ...core.images.io import to_pictures
from ...core.images.tiles import tiled
from ...core.prepared import Guide, guide_without_picture, spread
from ...core.provenance import origin
from ...core.sampling.estimate import RunPlan, described, plan_run
from ...core.sampling.loop import SamplingState, sample_steps
from ...core.sampling.maps import settings_for
from ...core.sampling.settings import SamplingSettings
from ...core.sampling.trace import Forecast
from ...core.sampling.windows import Sliding
from ...core.storage.fingerprint import fingerprint
from . import comfy as host
from . import resume as unfinished
from .handles import BundleHandle

SHOWN = 9  # pictures of a batch in a preview


@dataclasses.dataclass(frozen=True)
class Sampled:
    """A finished run: the canvas before and after, the statistics that `SamplingState` has, and the forecast of
    the first picture. It stays kept under its key until its pictures are made."""

    key: str
    start: Canvas
    canvas: Canvas
    state: SamplingState
    forecast: Forecast


def run(
    model: BundleHandle,
    guide: Guide | None,
    canvas: Canvas | None,
    settings: SamplingSettings | None,
    sliding: Sliding | None,
    seed: int,
    pictures: int,
    preview_every: int,
    bar: host.Progress | None = None,
) -> Sampled:
    """Fill a canvas; where the same run was cancelled or failed before, from there on. What it will take is told first,
    if the canvas is larger than the window or wraps.

    Args:
        sliding: None moves the window cell by cell, and wraps as the canvas does.
        preview_every: cells from one preview picture to the next; 0 for none.
        bar: where several runs share one.
    """
    settings, sliding = settings or SamplingSettings(), sliding_for(sliding, canvas)
    key = fingerprint(model.name, guide, canvas, settings, sliding, seed, pictures)
    condition, start = beginning(model, guide, canvas, sliding, pictures)
    settings = settings_for(settings, start)
    guided = settings.guidance != 1
    bundle = model.ready_to_sample(start, guided)
    before = unfinished.kept.get(key)
    state = before.state if before else SamplingState.start(start, seed)
    forecast = before.forecast if before else blank_forecast(bundle, start)
    if max(start.size) > bundle.prior.config.window or sliding.wrap != "none":
        plan = plan_run(bundle.prior, condition, start.with_cells(state.indices, state.known), settings, sliding)
        host.say(described(plan))
        model.ready_to_sample(start, guided, plan.memory)
    remark = _remark(model, guide, start)
    if remark:
        host.say(remark)
    bar, started = bar or host.Progress(), time.monotonic()
    left = int((~start.known & (state.draws == 0)).sum())

    def now() -> Canvas:
        return start.with_cells(state.indices, state.known)

    steps = sample_steps(bundle.prior, condition, state, settings, sliding, forecast)
    try:
        for step in steps:
            due = preview_every and (step.done % preview_every == 0 or step.done == step.total)
            bar.step(step.done, step.total, (lambda: preview(bundle.vqgan, now())) if due else None)
    finally:  # whatever ends it, and until its pictures are made
        unfinished.keep(key, unfinished.Run(state, forecast, start))
    state.move_to(torch.device("cpu"))  # canvases are small, and live there
    if left:
        host.say(" · ".join(filter(None, [f"{left} cells in {time.monotonic() - started:.1f} s", remark])))
    return Sampled(key, start, now().with_origins(origins_of(model, start, state, settings, sliding)), state, forecast)


def _remark(model: BundleHandle, guide: Guide | None, start: Canvas) -> str:
    """What may surprise about a run, in a line; mostly empty."""
    if start.known.all():
        return "Nothing to paint: all cells are known; forget some first"
    kind = model.bundle.condition_config.kind
    if guide is None and kind not in ("none", "coordinates"):
        return f"Nothing guides this picture: the model paints freely; connect {kind} to guide it"
    return ""


def finish(*runs: Sampled) -> None:
    """The pictures of these runs are made, so that there is nothing to recall."""
    unfinished.finish(*(run.key for run in runs))


def origins_of(
    model: BundleHandle, start: Canvas, state: SamplingState, settings: SamplingSettings, sliding: Sliding
) -> tuple[str, ...]:
    """How each picture was painted; what it was before where nothing was left to paint."""
    before = start.origins or ("",) * len(start.indices)
    painted = state.draws.flatten(1).any(1).tolist()
    return tuple(
        origin(model.prior_fingerprint, state.seed + number, settings, sliding) if new else old
        for number, (new, old) in enumerate(zip(painted, before, strict=True))
    )


def blank_forecast(bundle: Bundle, canvas: Canvas) -> Forecast:
    """Where the prior works, for one picture of a canvas."""
    return Forecast.blank(*canvas.size, bundle.prior.config.codebook_size, bundle.prior.pos_emb.device)


def save_forecast(sampled: Sampled, images: Tensor, vqgan: VQGAN) -> Path:
    """Write what the panel of Sampling Settings shows of a run to a temporary file; `images` are its pictures."""
    config, path = vqgan.config, host.new_temporary_file("tessera_forecast", ".safetensors")
    colours = colours_in(sampled.canvas, images, config.codebook_size, config.stride)
    sampled.forecast.save(path, sampled.state.uniforms()[0], colours, config.stride)
    return path


def plan(
    model: BundleHandle,
    guide: Guide | None,
    canvas: Canvas | None,
    settings: SamplingSettings | None,
    sliding: Sliding | None,
    pictures: int,
) -> RunPlan:
    """What `run` with the same arguments would take."""
    sliding = sliding_for(sliding, canvas)
    condition, start = beginning(model, guide, canvas, sliding, pictures)
    bundle = model.ready_to_sample(start, settings is not None and settings.guidance != 1)
    return plan_run(bundle.prior, condition, start, settings_for(settings or SamplingSettings(), start), sliding)


def sliding_for(sliding: Sliding | None, canvas: Canvas | None) -> Sliding:
    """As asked for; else exact, wrapping as the canvas does."""
    return sliding or Sliding(wrap="none" if canvas is None else canvas.wrap)


def beginning(
    model: BundleHandle, guide: Guide | None, canvas: Canvas | None, sliding: Sliding, pictures: int
) -> tuple[Condition, Canvas]:
    """Condition and canvas of a run before it starts, as many as pictures are to be made."""
    guide = guide or guide_without_picture(model.ready_without_condition(), canvas)
    condition, start = spread(guide, canvas, pictures)
    return condition, start.with_wrap(sliding.wrap)


def preview(vqgan: VQGAN, canvas: Canvas) -> Image.Image:
    """The first pictures of a canvas as far as they are known."""
    some = canvas.pick(torch.arange(min(SHOWN, len(canvas.indices))))
    return to_pictures(tiled(decode_canvas(vqgan, some.with_cells(some.indices.cpu(), some.known.cpu()))))[0]


def sweep(
    model: BundleHandle,
    guide: Guide | None,
    canvas: Canvas | None,
    settings: list[SamplingSettings],
    sliding: Sliding | None,
    seed: int,
    pictures: int,
    preview_every: int,
) -> list[Sampled]:
    """One run for each of the settings, under one bar; all have the same random numbers."""
    bars = host.Progress().shared(len(settings))
    return [
        run(model, guide, canvas, setting, sliding, seed, pictures, preview_every, bar)
        for setting, bar in zip(settings, bars, strict=True)
    ]
