"""Settings for each cell from masks, and a state's statistics as masks."""

import dataclasses
import math

from torch import Tensor

from ..canvas.canvas import Canvas
from ..canvas.masks import cells_to_mask, mask_to_cells
from .settings import SamplingSettings
from .state import SamplingState


def settings_for(settings: SamplingSettings, canvas: Canvas) -> SamplingSettings:
    """Settings whose temperature map, if they have one, has one value for each cell of `canvas`."""
    if not isinstance(settings.temperature, Tensor):
        return settings
    return dataclasses.replace(settings, temperature=mask_to_cells(settings.temperature, canvas))


def painted_settings(settings: SamplingSettings, mask: Tensor, black: float, white: float) -> SamplingSettings:
    """Settings whose temperature is painted: `black` where mask [B, H, W] is 0, `white` where it is 1, between
    them in proportion; ValueError for temperatures out of range."""
    return dataclasses.replace(settings, temperature=black + mask.float() * (white - black))


def statistics_masks(state: SamplingState, canvas: Canvas, codes: int, stride: int) -> tuple[Tensor, Tensor]:
    """Entropy and surprise (-log p of the code drawn) of a run as masks as large as the decoded picture.

    Args:
        codes: of the codebook. Both are shares of log(codes), what a blind guess has; surprise can be above 1.
    Returns:
        Two [B, H, W]; 0 where cells were known before.
    """
    blind = math.log(max(2, codes))
    entropy = cells_to_mask(state.entropy / blind, canvas, stride)
    return entropy, cells_to_mask(-state.log_probability / blind, canvas, stride)
