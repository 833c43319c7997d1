"""Whether the same seed gives the same codes, however the embedded model is run."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from ..core.bundle import Bundle
from ..core.canvas.canvas import Canvas
from ..core.conditions.base import Condition
from ..core.conditions.sketch import CELL, Sketch
from ..core.geometry import Window
from ..core.prefix import Prefix
from ..core.sampling.logits import draw, warp
from ..core.sampling.noise import cell_keys, gumbel
from ..core.sampling.settings import SamplingSettings
from ..core.sampling.windows import Sliding
from .coupling import embedded_conditions, example_sketches
from .embedded import last_row_unknown, paint, tiled
from .report import Report

ABOUT = """\
The embedded model on lines and colors of the two example pictures, temperature 1: codes that are the same, in
percent, of pictures drawn in batches of eight, one cell at a time, and of the same pictures *several cells at a
time*, one picture after the other, and *without a cache*: the whole window evaluated at once, every cell drawn anew
from the codes before it. *Row schedules*: a canvas larger than the window, stride 4, one cell at a time and row after
row, against 2, 4 or as many rows side by side as the loop chooses, several cells at a time."""

BATCH = 8
PLAIN = SamplingSettings()


@torch.inference_mode()
def draw_uncached(bundle: Bundle, condition: Condition, codes: Tensor, seed: int) -> Tensor:
    """Each cell of codes [B, h, w] drawn from those before it, without a cache: [B, h, w]."""
    side, cells = bundle.prior.window, codes.flatten(1)
    prefix = Prefix.of(condition.prefix(Window(0, 0, side, side))).expand(len(cells))
    keys = cell_keys(seed, len(codes), side, side).flatten(2)  # [2, B, cells]
    drawn = [
        draw(warp(logits, PLAIN, 1.0), gumbel(own, logits.shape[-1]))
        for logits, own in zip(bundle.prior(prefix, cells), keys.transpose(0, 1), strict=True)
    ]
    return torch.stack(drawn).view_as(codes)


def count_window(bundle: Bundle, condition: Condition, seed: int, canvas: Canvas, batch: int) -> dict[str, int]:
    """Cells that differ in pictures of the seeds from `seed` on."""
    images = Canvas(canvas.indices.expand(batch, -1, -1).clone(), canvas.known.expand(batch, -1, -1).clone())
    one = paint(bundle.prior, condition, images, seed, 1, Sliding())
    several = [paint(bundle.prior, condition, canvas, seed + image, 0, Sliding()) for image in range(batch)]
    free = ~images.known
    uncached = draw_uncached(bundle, condition, one, seed)
    return {
        "several cells at a time": int((one != torch.cat(several)).sum()),
        "without a cache": int((one != uncached)[free].sum()),
        "cells": int(free.sum()),
    }


def count_rows(bundle: Bundle, condition: Condition, canvas: Canvas, seed: int, rows: tuple[int, ...]) -> int:
    """Cells that differ between one row after the other and several side by side."""
    plain = paint(bundle.prior, condition, canvas, seed, 1, Sliding(stride=4, rows=1))
    others = [paint(bundle.prior, condition, canvas, seed, 0, Sliding(stride=4, rows=number)) for number in rows]
    return sum(int((plain != other).sum()) for other in others)


def measure(quick: bool, first: int = 0, batches: int = 4) -> Report:
    """Percent of cells that differ, for `batches` batches of each condition, seeds from `first` on."""
    bundle, conditions = embedded_conditions()
    side = bundle.prior.window
    canvas, tall = bundle.empty_canvas(1), Canvas.empty(1, side + 2, side + 8)
    batch, rows = (2, (0,)) if quick else (BATCH, (2, 4, 0))
    if quick:
        canvas, tall, conditions = last_row_unknown(canvas), Canvas.empty(1, 2, side + 4), conditions[1:]
        batches = 1
    start, counted = time.perf_counter(), {"several cells at a time": 0, "without a cache": 0, "cells": 0}
    for condition in conditions:
        for seed in range(first, first + batches * batch, batch):
            for name, number in count_window(bundle, condition, seed, canvas, batch).items():
                counted[name] += number
    both = tiled(example_sketches(bundle)[1], 2, 2)
    height, width = (cells * CELL for cells in tall.size)
    sketch = Sketch(lines=both.lines[..., :height, :width], colors=both.colors[..., :height, :width])
    differ = count_rows(bundle, bundle.condition(sketch, tall.size), tall, first, rows)
    cells = counted.pop("cells")
    ratios = {"pictures": float(len(conditions) * batches * batch)}
    ratios |= {f"the same codes, {name}, %": 100 * (1 - number / cells) for name, number in counted.items()}
    ratios["the same codes, row schedules, %"] = 100 * (1 - differ / (len(rows) * tall.indices.numel()))
    return Report("equality", ABOUT, ratios, {"all": time.perf_counter() - start})
