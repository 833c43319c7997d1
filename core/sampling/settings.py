"""How codes are drawn."""

from dataclasses import dataclass

import torch
from torch import Tensor

MIN_TEMPERATURE = 1e-20  # temperatures below act like it: the most likely code wins, however close the next
MAX_TEMPERATURE = 100.0
MAX_GUIDANCE = 20.0


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How boldly codes are drawn.

    temperature: 0 (always the most likely code) to 100; 1 is the model as trained. A number, or a map
        [h, w] or [B, h, w] with one value a cell.
    top_k: draw among the k most likely codes only; 0 is off.
    top_p: draw among the fewest codes that hold this share of the probability; 1 is off.
    min_p: leave out codes less likely than this share of the most likely one; 0 is off.
    guidance: how strongly the condition pulls, 0 to 20; 1 is the model as trained and off, 2 doubles what the
        condition changes. Takes twice the time, and a prior that has learned to do without its condition too.
    bias: [K], added to the logits before all but guidance; -inf bans a code (`canvas.palette`). None is off.

    Raises ValueError for values out of range.
    """

    temperature: float | Tensor = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    guidance_scale: float = 1.0
    bias: Tensor | None = None

    def __post_init__(self):
        temperatures = torch.as_tensor(self.temperature, dtype=torch.float32)
        # NaN fails both comparisons
        if not bool(((temperatures >= 0) & (temperatures <= MAX_TEMPERATURE)).all()):
            worst = temperatures.flatten()[(~((temperatures >= 0) & (temperatures <= MAX_TEMPERATURE))).flatten()][0]
            raise ValueError(f"temperature {float(worst)} is out of range; choose 0 to {MAX_TEMPERATURE:g}")
        if not isinstance(self.top_k, int) or self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}; choose a whole number from 1, or 0 for off")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; choose a share above 0 and up to 1 (1 is off)")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p is {self.min_p}; choose a share from 0 (off) to 1")
        if not 0 <= self.guidance_scale <= MAX_GUIDANCE:
            raise ValueError(f"guidance is {self.guidance_scale}; choose 0 to {MAX_GUIDANCE:g}, 1 is off")
        if self.bias is not None and not bool((self.bias < torch.inf).all() & self.bias.isfinite().any()):
            raise ValueError("the bias of codes holds NaN or infinity, or bans all codes; leave some finite ones")
