"""Masks painted on a picture as numbers for cells, and numbers of cells as masks."""

import dataclasses
import math

import torch.nn.functional as F
from torch import Tensor

from .canvas import Canvas
from .codec import trimmed
from .sampling import SamplingState
from .warp import SamplingSettings

FINE = 16  # steps a cell's side is cut into, to place a mask on a canvas that overhangs


def mask_to_cells(mask: Tensor, canvas: Canvas) -> Tensor:
    """The mean of a mask over each cell: [1 or B, H, W] of any size, laid over the picture -> [1 or B, h, w].

    Raises:
        ValueError: another number of masks than pictures.
    """
    if mask.ndim != 3 or len(mask) not in (1, len(canvas.indices)) or not mask.numel():
        raise ValueError(
            f"the mask has shape {tuple(mask.shape)}, the canvas {len(canvas.indices)} pictures; "
            "give one mask, or as many as there are pictures"
        )
    bottom, right = (round(share * FINE) for share in canvas.overhang)
    height, width = canvas.size
    fine = F.interpolate(mask.float().unsqueeze(1), (height * FINE - bottom, width * FINE - right), mode="area")
    return F.avg_pool2d(F.pad(fine, (0, right, 0, bottom), mode="replicate"), FINE).squeeze(1)


def cells_to_mask(cells: Tensor, canvas: Canvas, stride: int) -> Tensor:
    """Numbers of cells as squares of `stride` pixels: [B, h, w] -> [B, H, W], as large as the decoded picture."""
    squares = cells.repeat_interleave(stride, 1).repeat_interleave(stride, 2)
    return trimmed(squares, canvas.overhang, stride)


def unknown_mask(canvas: Canvas, stride: int) -> Tensor:
    """1 where cells are unknown: [B, H, W], as large as the decoded picture."""
    return cells_to_mask((~canvas.known).float(), canvas, stride)


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
