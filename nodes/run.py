"""Core's sampling loop under ComfyUI: bar, preview pictures, cancel, and going on after one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..core.atlas import colours_in
from ..core.bundle import Bundle
from ..core.canvas import Canvas
from ..core.codec import decode_canvas
from ..core.fingerprint import fingerprint
from ..core.forecast import Forecast
from ..core.guide import Guide, guide_without_picture, spread
from ..core.image import to_pictures
from ..core.masks import settings_for
from ..core.sampling import SamplingState, sample_steps
from ..core.tiles import tiled
from ..core.vqgan import VQGAN
from ..core.warp import SamplingSettings
from . import host, unfinished
from .models import BundleHandle

SHOWN = 9  # pictures of a batch in a preview


@dataclasses.dataclass(frozen=True)
class Sampled:
    """A finished run: the canvas before and after, the statistics that `SamplingState` has, and the forecast of
    the first picture."""

    start: Canvas
    canvas: Canvas
    state: SamplingState
    forecast: Forecast


def run(
    model: BundleHandle,
    guide: Guide | None,
    canvas: Canvas | None,
    settings: SamplingSettings | None,
    seed: int,
    pictures: int,
    preview_every: int,
    bar: host.Progress | None = None,
) -> Sampled:
    """Fill a canvas; where the same run was cancelled before, from there on.

    Args:
        preview_every: cells from one preview picture to the next; 0 for none.
        bar: where several runs share one.
    """
    settings = settings or SamplingSettings()
    key = fingerprint(model.name, guide, canvas, settings, seed, pictures)
    guide = guide or guide_without_picture(model.bundle, canvas)
    condition, start = spread(guide, canvas, pictures)
    stride = model.bundle.vqgan.config.stride
    bundle = model.ready_to_sample(len(start.indices), *(side * stride for side in start.size))
    before = unfinished.take(key)
    state = before.state if before else SamplingState.start(start, seed)
    forecast = before.forecast if before else blank_forecast(bundle, start)
    bar = bar or host.Progress()

    def now() -> Canvas:
        return state.canvas.with_overhang(start.overhang)

    steps = sample_steps(bundle.prior, condition, state, settings_for(settings, start), forecast=forecast)
    try:
        for step in steps:
            due = preview_every and (step.done % preview_every == 0 or step.done == step.total)
            bar.step(step.done, step.total, (lambda: preview(bundle.vqgan, now())) if due else None)
    except host.Interrupted:
        unfinished.keep(key, state, forecast, start.overhang)
        raise
    state.move_to(torch.device("cpu"))  # canvases are small, and live there
    return Sampled(start, now(), state, forecast)


def blank_forecast(bundle: Bundle, canvas: Canvas) -> Forecast:
    """Where the prior works, for one picture of a canvas."""
    return Forecast.blank(*canvas.size, bundle.prior.config.codebook_size, bundle.prior.pos_emb.device)


def save_forecast(sampled: Sampled, images: Tensor, vqgan: VQGAN) -> Path:
    """Write what the panel of Sampling Settings shows of a run to a temporary file; `images` are its pictures."""
    config, path = vqgan.config, host.new_temporary_file("tessera_forecast", ".safetensors")
    colours = colours_in(sampled.canvas, images, config.codebook_size, config.stride)
    sampled.forecast.save(path, sampled.state.uniforms()[0], colours, config.stride)
    return path


def preview(vqgan: VQGAN, canvas: Canvas) -> Image.Image:
    """The first pictures of a canvas as far as they are known."""
    some = Canvas(canvas.indices[:SHOWN].cpu(), canvas.known[:SHOWN].cpu(), canvas.overhang)
    return to_pictures(tiled(decode_canvas(vqgan, some)))[0]


def sweep(
    model: BundleHandle,
    guide: Guide | None,
    canvas: Canvas | None,
    settings: list[SamplingSettings],
    seed: int,
    pictures: int,
    preview_every: int,
) -> list[Sampled]:
    """One run for each of the settings, under one bar; all have the same random numbers."""
    bars = host.Progress().shared(len(settings))
    return [
        run(model, guide, canvas, setting, seed, pictures, preview_every, bar)
        for setting, bar in zip(settings, bars, strict=True)
    ]
