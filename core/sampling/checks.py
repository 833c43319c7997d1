"""Checks before sampling starts: canvas, condition, settings and prior must fit together."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ..conditions.base import Condition, ConditionInParts
from ..geometry import Window, Wrap
from ..prefix import Prefix
from ..priors.base import Prior
from .settings import SamplingSettings
from .state import SamplingState
from .windows import EXACT, Sliding


def check_inputs(prior: Prior, condition: Condition, state: SamplingState, sliding: Sliding = EXACT) -> None:
    """Raise ValueError where canvas, condition and prior don't belong together."""
    batch, height, width = state.indices.shape
    if prior.order is not None:
        _check_one_window(prior, height, width, state.wrap)
    elif prior.whole_canvas:
        _check_whole(prior, height, width, state.wrap)
    else:
        _check_sliding(prior, width, sliding, state.wrap)
    if (code := _first_outside(state.indices, prior.codebook_size)) is not None:
        raise ValueError(
            f"the canvas holds code {code}, the prior knows 0 to {prior.codebook_size - 1}; "
            "encode the picture with the VQGAN of the same bundle"
        )
    made_for = condition.canvas_size or (height, width)  # conditions that differ from place to place
    if tuple(made_for) != (height, width):
        raise ValueError(
            f"the condition was made for {made_for[0]}x{made_for[1]} cells, the canvas has {height}x{width}; "
            "use a canvas of the condition's size"
        )
    prefix = first_prefix(prior, condition)
    if len(prefix) not in (1, batch):
        raise ValueError(
            f"the condition gives {len(prefix)} prefixes, the canvas takes 1 or {batch}; give one, or one for each"
        )
    prior.check_prefix(prefix)


def _check_whole(prior: Prior, height: int, width: int, wrap: Wrap) -> None:
    if height * width > prior.window**2 or wrap != "none":
        raise ValueError(
            f"this prior sees a whole canvas of at most {prior.window**2} cells at once, unwrapped; the canvas has "
            f"{height}x{width} cells and wraps {wrap!r}"
        )


def _check_one_window(prior: Prior, height: int, width: int, wrap: Wrap) -> None:
    if (height, width) != (prior.window, prior.window) or wrap != "none":
        raise ValueError(
            f"this prior draws cells in an order that fits {prior.window}x{prior.window} of them, unwrapped; the "
            f"canvas has {height}x{width} cells and wraps {wrap!r}"
        )


def _check_sliding(prior: Prior, width: int, sliding: Sliding, wrap: Wrap) -> None:
    if sliding.stride > 1 and sliding.stride > prior.window // 2:
        raise ValueError(
            f"a stride of {sliding.stride} cells is too long for the prior's window of {prior.window}; "
            f"choose at most {max(1, prior.window // 2)}"
        )
    if wrap == "y" and width < prior.window:
        raise ValueError(
            f"the canvas is {width} cells wide and wraps top to bottom only, the prior's window is {prior.window} "
            'wide; use a canvas at least that wide, or wrap "both"'
        )


def first_prefix(prior: Prior, condition: Condition) -> Prefix:
    """The prefix of the window at the upper left."""
    return Prefix.of(condition.prefix(Window(0, 0, prior.window, prior.window)))


def guided_by(condition: Condition, settings: SamplingSettings) -> tuple[list[Condition], list[float]]:
    """The conditions that guidance mixes, and what the log-probabilities given each count: 1 in all.

    What each part adds counts 1 + (guidance - 1) times its emphasis, as in arXiv 2211.09800, equation 3, for two parts.
    What counts nothing is left out.

    Raises:
        ValueError: guidance without a condition, or of a prior that has not learned to do without it.
    """
    if settings.guidance_scale == 1:
        return [condition], [1.0]
    unconditional = condition.unconditional
    if unconditional is None:
        raise ValueError(
            f"guidance is {settings.guidance_scale:g}, but nothing guides the picture, or this model has not learned "
            "to paint without what does; leave guidance at 1"
        )
    partial, emphasis = (), (1.0,)
    if isinstance(condition, ConditionInParts):
        partial, emphasis = condition.partial, condition.emphasis
    scales = [1 + (settings.guidance_scale - 1) * part for part in emphasis]
    counts = [before - after for before, after in zip([1.0, *scales], [*scales, 0.0], strict=True)]
    mixed = [pair for pair in zip([unconditional, *partial, condition], counts, strict=True) if pair[1]]
    return [one for one, _ in mixed], [count for _, count in mixed]


def settings_on(settings: SamplingSettings, prior: Prior) -> SamplingSettings:
    """Settings with the bias of codes on the prior's device; ValueError for one of another codebook."""
    if settings.bias is None:
        return settings
    if settings.bias.shape != (prior.codebook_size,):
        raise ValueError(
            f"the bias is for {len(settings.bias)} codes, the prior has {prior.codebook_size}; make it with this model"
        )
    return dataclasses.replace(settings, bias=settings.bias.to(prior.device))


def temperature_map(settings: SamplingSettings, batch: int, height: int, width: int) -> Tensor:
    """The temperature of every cell, [B, h, w]; ValueError for a map that does not fit the canvas."""
    temperature = torch.as_tensor(settings.temperature, dtype=torch.float32)
    try:
        return temperature.expand(batch, height, width)
    except RuntimeError:
        raise ValueError(
            f"the temperature map has shape {tuple(temperature.shape)}, the canvas {batch} images of "
            f"{height}x{width} cells; scale the map to the canvas"
        ) from None


def _first_outside(tokens: Tensor, number: int) -> int | None:
    """The first of the tokens that is not in 0..number-1, if there is one."""
    outside = tokens[(tokens < 0) | (tokens >= number)]
    return int(outside[0]) if len(outside) else None
