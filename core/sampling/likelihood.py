"""How surprised the prior is along a canvas, for each way to slide the window: the price of going faster.

The negative log-likelihood of held-out images' codes (section 3.2, arXiv eq. 9), each cell seen through the window
that would predict it (section 3.2). Strides and borders show as the cells that cost more nats. By the same measure the
likeliest of many images are chosen (the released code's rejection).
"""

from collections import defaultdict

import torch
import torch.nn.functional as F
from torch import Tensor

from ..canvas.canvas import Canvas
from ..conditions.base import Condition
from ..geometry import Window
from ..prefix import Prefix
from ..priors.base import Prior
from .checks import check_inputs
from .state import SamplingState
from .windows import EXACT, Sliding, Visit, visits


@torch.inference_mode()
def canvas_nll(
    prior: Prior, condition: Condition, canvas: Canvas, sliding: Sliding = EXACT, mask: Tensor | None = None
) -> Tensor:
    """Nats of every code of a canvas whose cells are all known.

    A cell that is drawn twice, where the canvas wraps, counts as at its last draw.

    Args:
        canvas: at least as wide as the window.
        mask: [h, w] bool, the cells to measure; None is all. A forward pass for each of their windows.
    Returns:
        [B, h, w] float32, NaN where not measured.
    Raises:
        ValueError: unknown cells, a canvas narrower than the window, or parts that don't belong together.
    """
    batch, height, width = canvas.indices.shape
    side, device = prior.window, prior.device
    if not canvas.known.all():
        raise ValueError("the canvas has unknown cells; measure complete pictures")
    if width < side:
        raise ValueError(f"the canvas is {width} cells wide, the prior's window {side}; use a wider one")
    check_inputs(prior, condition, SamplingState.start(canvas, 0), sliding)
    wanted = (torch.ones(height, width) if mask is None else mask).tolist()
    last = {(v.row, v.column): v for v in visits(height, width, side, sliding, canvas.wrap) if wanted[v.row][v.column]}
    cells: dict[Window, list[Visit]] = defaultdict(list)  # what each window predicts
    for visit in last.values():
        cells[visit.window].append(visit)
    indices = canvas.indices.to(device)
    order = torch.tensor(prior.order or range(side * side), device=device)
    nll = torch.full((batch, height, width), torch.nan)
    for window, predicted in cells.items():
        codes = indices[:, window.rows(height)][:, :, window.columns(width)].flatten(1)
        prefix = Prefix.of(condition.prefix(window)).to(device)
        logits, _ = prior.start(prefix, codes[:, order][:, :-1], last=codes.shape[1])  # [B, cells, K]
        logits = logits[:, order.argsort()]
        losses = F.cross_entropy(logits.float().transpose(1, 2), codes, reduction="none").cpu()
        for v in predicted:
            nll[:, v.row, v.column] = losses[:, (v.row - window.top) * side + v.column - window.left]
    return nll


def mean_log_probability(state: SamplingState, was_known: Tensor) -> Tensor:
    """Mean over the cells that were sampled, nats a cell: [B], higher is likelier; 0 where none was.

    Args:
        was_known: [B, h, w] bool, the cells that were known before.
    """
    sampled = (~was_known).to(state.log_probability)
    return (state.log_probability * sampled).sum((1, 2)) / sampled.sum((1, 2)).clamp(min=1)


def best_of(scores: Tensor, groups: int, keep: int) -> Tensor:
    """Which of the images to keep, the best `keep` of each group, best first: [groups * keep] int64.

    Args:
        scores: [n * groups], of image 0 of each group, then image 1 of each, and so on.
    Raises:
        ValueError: fewer images than are to be kept.
    """
    candidates = len(scores) // groups
    check_choice(candidates, keep)
    order = scores.view(candidates, groups).argsort(dim=0, descending=True, stable=True)[:keep]  # [keep, groups]
    return (order * groups + torch.arange(groups)).flatten()


def check_choice(candidates: int, keep: int) -> None:
    """Raise ValueError unless `keep` of `candidates` images can be kept; to be asked before they are made."""
    if not 1 <= keep <= candidates:
        raise ValueError(f"{keep} of {candidates} pictures can't be kept; choose 1 to {candidates}")
