"""One setting in several values: what it does, side by side."""

import dataclasses
import math
from typing import Literal, get_args

from ..storage.door import brief
from .settings import SamplingSettings

Swept = Literal["temperature", "top_k", "top_p", "min_p", "guidance"]
MAX_VALUES = 32  # values


def parse_values(text: str) -> list[float]:
    """Numbers separated by commas or spaces.

    Raises:
        ValueError: none, too many, or something else than numbers.
    """
    try:
        values = [float(word) for word in text.replace(",", " ").split()]
    except ValueError:
        raise ValueError(f"{brief(text)!r} are not all numbers; write them like 0.5, 0.8, 1") from None
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{brief(text)!r} are not all finite numbers; write them like 0.5, 0.8, 1")
    if not 1 <= len(values) <= MAX_VALUES:
        raise ValueError(f"{brief(text)!r} holds {len(values)} values; write 1 to {MAX_VALUES}, like 0.5, 0.8, 1")
    return values


def swept_settings(settings: SamplingSettings, name: Swept, values: list[float]) -> list[SamplingSettings]:
    """The settings once for each value; ValueError for an unknown setting or a value out of its range."""
    if name not in get_args(Swept):
        raise ValueError(f"{name!r} can't be swept; choose {', '.join(get_args(Swept))}")
    if name == "top_k" and any(value != int(value) for value in values):
        raise ValueError(f"top_k takes whole numbers, got {brief(values)}")
    kind = int if name == "top_k" else float
    field = "guidance_scale" if name == "guidance" else name
    return [dataclasses.replace(settings, **{field: kind(value)}) for value in values]
