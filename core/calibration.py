"""What real images reach of that by which samples are judged: likelihood of their codes, agreement with the condition.

By such tables a sample's score is told in percents of real images, and scores of different kinds can be added.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .bundle import Bundle
from .canvas.canvas import Canvas
from .canvas.codec import decode_canvas, encode_canvas
from .conditions.base import Condition, repeat
from .conditions.edges import canny
from .conditions.sketch import Sketch
from .prepared import (
    PreparedCondition,
    condition_agreement,
    prepare_image_condition,
    prepare_sketch,
    prepare_unconditional,
)
from .sampling.likelihood import canvas_nll


@torch.inference_mode()
def scores_of_real(bundle: Bundle, images: Tensor) -> dict[str, Tensor]:
    """Scores of real images, by name, [B] each.

    "likelihood" is the geometric mean of the probabilities of their codes, guided by what they show, "free_likelihood"
    the same guided by nothing; "agreement" is that of their reconstructions with what guides.

    Args:
        images: [B, 3, S, S] in -1..1, one window large.
    Raises:
        ValueError: a bundle whose condition an image alone does not tell, and which can't do without one.
    """
    config, scores = bundle.condition_config, {}
    canvas = encode_canvas(bundle.vqgan, images)
    if (guided := _guided(bundle, images)) is not None:
        scores["likelihood"] = _likelihood(bundle, guided.condition, canvas)
        scores["agreement"] = condition_agreement(bundle, guided, decode_canvas(bundle.vqgan, canvas))
    if config.optional:
        nothing = prepare_unconditional(bundle, canvas).condition
        scores["free_likelihood"] = _likelihood(bundle, repeat(nothing, len(images)), canvas)
    if not scores:
        raise ValueError(
            f"a model guided by {config.kind} can't be calibrated by pictures alone; leave the calibration out"
        )
    return scores


def _guided(bundle: Bundle, images: Tensor) -> PreparedCondition | None:
    """By the edges of images, with their colors, or by small ones; None where the model is guided by something else."""
    kind = bundle.condition_config.kind
    if kind == "edges":
        return prepare_image_condition(bundle, kind, canny(images))
    if kind == "low-resolution":
        small = F.interpolate(images, scale_factor=1 / bundle.condition_config.factor, mode="area")
        return prepare_image_condition(bundle, kind, small)
    if kind == "sketch":
        return prepare_sketch(bundle, Sketch(lines=canny(images) / 2 + 0.5, colors=images))
    return None


def _likelihood(bundle: Bundle, condition: Condition, canvas: Canvas) -> Tensor:
    return (-canvas_nll(bundle.prior, condition, canvas).mean((1, 2))).exp()
