"""A condition together with the canvas it was made for, so that a picture of any size can guide one as large."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .bundle import Bundle
from .canvas.canvas import Canvas
from .canvas.codec import decode_latents, overhang_of, trimmed
from .conditions.base import Condition, repeat
from .conditions.config import ConditionKind
from .conditions.layout import Box
from .conditions.maps import colors_of_labels
from .geometry import Window
from .images.resize import pad_to_multiple


@dataclass(frozen=True)
class Guide:
    """condition, and an empty canvas of the size and number of pictures that it guides."""

    condition: Condition
    canvas: Canvas


def guide_by_picture(bundle: Bundle, kind: ConditionKind, pictures: Tensor) -> Guide:
    """Guide by condition pictures, or label maps, as `Bundle.condition` takes them, with sides of any length.

    Args:
        kind: what they are.
        pictures: [B, 1 or 3, H, W], or labels [B, H, W].
    Raises:
        ValueError: the bundle is guided by something else, or what `Bundle.condition` refuses.
    """
    check_kind(bundle, kind)
    stride = bundle.vqgan.config.stride
    factor = max(1, bundle.condition_config.factor)  # how much larger the new picture is
    height, width = (side * factor for side in pictures.shape[-2:])
    condition = bundle.condition(padded(pictures, max(1, stride // factor)))
    empty = Canvas.empty(len(pictures), *condition.canvas_size)
    return Guide(condition, empty.with_overhang(overhang_of(height, width, stride)))


def padded(pictures: Tensor, multiple: int) -> Tensor:
    """Grow [B, C, H, W], or labels [B, H, W], right and bottom to multiples by repeating the border."""
    if pictures.ndim == 3:
        return pad_to_multiple(pictures.unsqueeze(1).double(), multiple).squeeze(1).long()
    return pad_to_multiple(pictures, multiple)


def guide_by_labels(bundle: Bundle, labels: Tensor) -> Guide:
    """Guide by class labels [B] int64, a picture each, one window large.

    Raises:
        ValueError: the bundle is guided by something else, or a class that it does not know.
    """
    check_kind(bundle, "class")
    return Guide(bundle.condition(labels), bundle.empty_canvas(len(labels)))


def guide_by_boxes(bundle: Bundle, boxes: list[Box], canvas: Canvas) -> Guide:
    """Guide by a scene layout, over a canvas of any size.

    Raises:
        ValueError: the bundle is guided by something else, or what `layout.layout_tokens` refuses.
    """
    check_kind(bundle, "layout")
    condition = bundle.condition(boxes, canvas.size)
    condition.prefix(Window(0, 0, *canvas.size))  # now, rather than when the run gets there
    return Guide(condition, canvas)


def guide_without_picture(bundle: Bundle, canvas: Canvas | None) -> Guide:
    """Guide by nothing, or by where on the canvas a cell is; one window where no canvas is given.

    Raises:
        ValueError: the bundle wants to be guided, and has not learned to paint freely.
    """
    config = bundle.condition_config
    if config.kind not in ("none", "coordinates") and not config.free:
        raise ValueError(f"this model is guided by {config.kind}; connect a condition of that kind")
    canvas = canvas or bundle.empty_canvas(1)
    return Guide(bundle.condition(None, canvas.size), canvas)


def check_kind(bundle: Bundle, kind: ConditionKind) -> None:
    """Raise ValueError unless this kind of condition guides the bundle's prior."""
    wanted = bundle.condition_config.kind
    if kind != wanted:
        raise ValueError(
            f"this model is guided by {wanted}, not by {kind}; "
            f"{'leave the condition out' if wanted in ('none', 'coordinates') else f'use a condition of kind {wanted}'}"
        )


@torch.inference_mode()
def seen(bundle: Bundle, guide: Guide) -> Tensor:
    """What is left of the condition picture after quantization: all that the prior knows of it.

    [B, 1 or 3, H, W] in -1..1, as large as the picture it guides, on the CPU; label maps in colours.
    """
    vqgan = bundle.condition_vqgan
    device = vqgan.post_quant_conv.weight.device
    pictures = decode_latents(vqgan, vqgan.codebook.lookup(guide.condition.indices.to(device)))
    if bundle.condition_config.kind == "segmentation":
        pictures = colors_of_labels(pictures.argmax(1), pictures.shape[1])
    return trimmed(pictures, guide.canvas.overhang, bundle.vqgan.config.stride)


def spread(guide: Guide, canvas: Canvas | None, pictures: int) -> tuple[Condition, Canvas]:
    """Condition and canvas for `pictures` new pictures of each that is guided.

    Args:
        canvas: what is known already; None for nothing. One is used for all guided pictures.
    Raises:
        ValueError: less than one picture, or a canvas of several pictures and a condition of another number.
    """
    if pictures < 1:
        raise ValueError(f"{pictures} pictures can't be made; ask for at least 1")
    canvas = canvas or guide.canvas
    guided, given = len(guide.canvas.indices), len(canvas.indices)
    if guided != given and 1 not in (guided, given):
        raise ValueError(
            f"the condition guides {guided} pictures and the canvas holds {given}; give one of them, or as many"
        )
    if given < guided:
        canvas = canvas.repeat(guided)
    return repeat(guide.condition, pictures), canvas.repeat(pictures)
