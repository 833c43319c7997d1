"""The sampling loop in its plainest form, as the paper describes it: every cell from the whole of its window, one
after the other, nothing kept from one to the next. `loop` gives the same codes faster; this one explains and checks it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..canvas.canvas import Canvas
from ..conditions.base import Condition
from ..prefix import Prefix
from ..priors.base import Prior
from .checks import guided_by, settings_on, temperature_map
from .logits import apply_guidance, draw, warp
from .noise import cell_keys, gumbel
from .schedule import right_padding
from .settings import SamplingSettings
from .state import SamplingState
from .windows import EXACT, Sliding, visits


@torch.inference_mode()
def sample_plainly(
    prior: Prior,
    condition: Condition,
    canvas: Canvas,
    seed: int,
    settings: SamplingSettings,
    sliding: Sliding = EXACT,
) -> SamplingState:
    """Fill the unknown cells of a canvas; arguments as `loop.sample`."""
    (batch, height, width), state = canvas.indices.shape, SamplingState.start(canvas, seed)
    wide = width + right_padding(width, prior.window, canvas.wrap)  # a canvas narrower than the window
    maps = {name: F.pad(tensor, (0, wide - width)) for name, tensor in state.tensors().items()}
    codes, given, settings = maps["indices"], maps["known"], settings_on(settings, prior)
    temperatures = F.pad(temperature_map(settings, batch, height, width), (0, wide - width), "replicate")
    keys, (conditions, counts) = cell_keys(seed, batch, height, wide), guided_by(condition, settings)
    for row, column, number, window in visits(height, wide, prior.window, sliding, canvas.wrap):
        fresh = ~given[:, row, column]
        if not fresh.any():
            continue
        place = (row - window.top) * window.width + column - window.left
        seen = codes[:, window.rows(height)][:, :, window.columns(wide)].flatten(1)[:, :place]
        each = [prior.start(Prefix.of(one.prefix(window)), seen)[0] for one in conditions]  # [B, 1, K] each
        logits = apply_guidance(torch.stack(each), counts)
        warped = warp(logits[:, 0], settings, temperatures[:, row, column, None])
        drawn = draw(warped, gumbel(keys[:, :, row, column], prior.codebook_size))
        likely = logits[:, 0].float().log_softmax(1)
        values = {"indices": drawn, "entropy": torch.special.entr(likely.exp()).sum(1), "draws": number}
        values["log_probability"] = likely.gather(1, drawn[:, None])[:, 0]
        for name, value in values.items():
            maps[name][:, row, column] = torch.where(fresh, value, maps[name][:, row, column])
    cropped = {name: tensor[:, :, :width].clone() for name, tensor in maps.items()}
    return SamplingState(**{**cropped, "known": torch.ones_like(canvas.known)}, given=canvas, seed=seed)
