"""A condition together with the canvas it was made for, so that an image of any size can guide one as large."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .bundle import Bundle
from .canvas.canvas import Canvas
from .canvas.codec import crop_padding, decode_latents, padding_of
from .conditions.base import Condition, repeat
from .conditions.control import ControlAREncoder, ControlledCondition
from .conditions.edges import canny
from .conditions.kinds import KINDS
from .conditions.layout import Box
from .conditions.maps import colorize_labels
from .conditions.sketch import CELL, Sketch, SketchCondition
from .conditions.spatial import SpatialCondition
from .conditions.text import TextFeatures
from .geometry import Window
from .images.metrics import edge_agreement
from .images.resize import pad_to_multiple, resize_lines
from .sampling.checks import first_prefix


@dataclass(frozen=True)
class PreparedCondition:
    """condition, and an empty canvas of the size and number of images that it guides."""

    condition: Condition
    canvas: Canvas


def prepare_image_condition(bundle: Bundle, kind: str, images: Tensor) -> PreparedCondition:
    """Guide by condition images, or label maps, as `Bundle.condition` takes them, with sides of any length.

    Args:
        kind: what they are.
        images: [B, 1 or 3, H, W], or labels [B, H, W].
    Raises:
        ValueError: the bundle is guided by something else, or what `Bundle.condition` refuses.
    """
    check_kind(bundle, kind)
    stride = bundle.vqgan.config.stride
    factor = max(1, bundle.condition_config.factor)  # how much larger the new image is
    height, width = (side * factor for side in images.shape[-2:])
    condition = bundle.condition(_pad(images, max(1, stride // factor)))
    empty = Canvas.empty(len(images), *(condition.canvas_size or bundle.empty_canvas(1).size))
    return PreparedCondition(condition, empty.with_padding(padding_of(height, width, stride)))


def _pad(images: Tensor, multiple: int) -> Tensor:
    """Grow [B, C, H, W], or labels [B, H, W], right and bottom to multiples by repeating the border."""
    if images.ndim == 3:
        return pad_to_multiple(images.unsqueeze(1).double(), multiple).squeeze(1).long()
    return pad_to_multiple(images, multiple)


def prepare_label_condition(bundle: Bundle, labels: Tensor) -> PreparedCondition:
    """Guide by class labels [B] int64, an image each, one window large.

    Raises:
        ValueError: the bundle is guided by something else, or a class that it does not know.
    """
    check_kind(bundle, "class")
    return PreparedCondition(bundle.condition(labels), bundle.empty_canvas(len(labels)))


def prepare_words_condition(bundle: Bundle, caption: str) -> PreparedCondition:
    """Guide by the words of a caption, one window large.

    Raises:
        ValueError: the bundle is guided by something else, or knows none of the words.
    """
    check_kind(bundle, "words")
    return PreparedCondition(bundle.condition(caption), bundle.empty_canvas(1))


def prepare_text_condition(bundle: Bundle, text: TextFeatures) -> PreparedCondition:
    """Guide by prompts, an image each, one window large.

    Raises:
        ValueError: the bundle is guided by something else, or another text encoder's features.
    """
    check_kind(bundle, "text")
    condition = bundle.condition(text)
    bundle.prior.check_prefix(first_prefix(bundle.prior, condition))
    return PreparedCondition(condition, bundle.empty_canvas(len(text.features)))


@torch.inference_mode()
def prepare_control(
    bundle: Bundle, base: PreparedCondition, images: Tensor, strength: float = 1.0, where: Tensor | None = None
) -> PreparedCondition:
    """Control what a condition guides by images of edges, depth or segments, of any size.

    Args:
        images: [B or 1, 1 or 3, H, W] in -1..1.
        strength: 0 (none) to 1 (as trained).
        where: [B or 1, H', W'] in 0..1, the share of `strength` at each place; None is 1 everywhere.
    Raises:
        ValueError: the bundle has no control, or images of another number than are guided.
    """
    if not isinstance(bundle.control, ControlAREncoder):
        raise ValueError("this model has no control by images; use one of ControlAR's")
    conditions, given = len(base.canvas.indices), len(images)
    if conditions != given and 1 not in (conditions, given):
        raise ValueError(f"{given} control images for {conditions} prompts don't match; give one of them, or as many")
    stride, (height, width) = bundle.vqgan.config.stride, images.shape[-2:]
    padded = pad_to_multiple(images, stride).expand(-1, 3, -1, -1)
    weight = next(bundle.control.parameters())
    control = torch.cat([bundle.control(one.to(weight)).float().cpu() for one in padded.split(1)])
    size = tuple(control.shape[1:3])
    strengths = torch.full((1, *size), strength)
    if where is not None:
        strengths = strength * F.interpolate(where.unsqueeze(1), size, mode="area").squeeze(1)
    canvas = Canvas.empty(max(conditions, given), *size).with_padding(padding_of(height, width, stride))
    return PreparedCondition(ControlledCondition(base.condition, control, strengths), canvas)


def prepare_sketch(bundle: Bundle, sketch: Sketch) -> PreparedCondition:
    """Guide by words, style, lines and colors, for an image as large as the lines, or else the colors, or one window.

    Args:
        sketch: as `Bundle.condition` takes it, but lines and colors [B or 1, 1 or 3, H, W] of one size, sides of any
            length.
    Raises:
        ValueError: the bundle is guided by something else, lines and colors of two sizes or numbers, or what
            `Bundle.condition` refuses.
    """
    check_kind(bundle, "sketch")
    stride, canvas = bundle.vqgan.config.stride, bundle.empty_canvas(1)
    given = [part for part in (sketch.lines, sketch.colors) if part is not None]
    if given:
        if len({part.shape[-2:] for part in given}) > 1 or len({len(part) for part in given} - {1}) > 1:
            shapes = " and ".join(f"{len(part)} of {part.shape[-1]}x{part.shape[-2]}" for part in given)
            raise ValueError(f"lines and colors differ: {shapes} pixels; give both in one size, and as many or one")
        height, width = given[0].shape[-2:]
        cells = -(-height // stride), -(-width // stride)
        canvas = Canvas.empty(max(map(len, given)), *cells).with_padding(padding_of(height, width, stride))
        if sketch.lines is not None:
            lines = pad_to_multiple(sketch.lines, stride)
            if stride != CELL:
                lines = resize_lines(lines, (cells[0] * CELL, cells[1] * CELL))
            sketch = replace(sketch, lines=lines)
        if sketch.colors is not None:
            sketch = replace(sketch, colors=pad_to_multiple(sketch.colors, stride))
    return PreparedCondition(bundle.condition(sketch, canvas.size), canvas)


def prepare_layout_condition(bundle: Bundle, boxes: list[Box], canvas: Canvas) -> PreparedCondition:
    """Guide by a scene layout, over a canvas of any size.

    Raises:
        ValueError: the bundle is guided by something else, or what `layout.layout_tokens` refuses.
    """
    check_kind(bundle, "layout")
    condition = bundle.condition(boxes, canvas.size)
    condition.prefix(Window(0, 0, *canvas.size))  # now, rather than when the run gets there
    return PreparedCondition(condition, canvas)


def prepare_unconditional(bundle: Bundle, canvas: Canvas | None) -> PreparedCondition:
    """Guide by nothing, or by where on the canvas a cell is; one window where no canvas is given.

    Raises:
        ValueError: the bundle wants to be guided, and has not learned to paint freely.
    """
    config = bundle.condition_config
    if not config.optional:
        raise ValueError(f"this model is guided by {config.kind}; give it a condition of that kind")
    canvas = canvas or bundle.empty_canvas(1)
    return PreparedCondition(bundle.condition(None, canvas.size), canvas)


def check_kind(bundle: Bundle, kind: str) -> None:
    """Raise ValueError unless this kind of condition guides the bundle's prior."""
    wanted = bundle.condition_config.kind
    if kind != wanted:
        raise ValueError(
            f"this model is guided by {wanted}, not by {kind}; "
            f"{'leave the condition out' if not KINDS[wanted].takes_input else f'use a condition of kind {wanted}'}"
        )


@torch.inference_mode()
def show_condition(bundle: Bundle, prepared: PreparedCondition) -> Tensor:
    """What is left of the condition image after quantization: all that the prior knows of it.

    [B, 1 or 3, H, W] in -1..1, as large as the image it guides, on the CPU; label maps in colors.
    """
    vqgan, condition = bundle.condition_vqgan, prepared.condition
    assert vqgan is not None  # as of all kinds that are images
    assert isinstance(condition, SpatialCondition)
    images = decode_latents(vqgan, vqgan.codebook.lookup(condition.indices.to(vqgan.device)))
    if bundle.condition_config.kind == "segmentation":
        images = colorize_labels(images.argmax(1), images.shape[1])
    return crop_padding(images, prepared.canvas.padding, bundle.vqgan.config.stride)


@torch.inference_mode()
def condition_agreement(bundle: Bundle, prepared: PreparedCondition, images: Tensor) -> Tensor:
    """How well images agree with the condition that guided them: [B] in 0..1.

    For edges, and the lines of a sketch, `edge_agreement` of theirs with the condition's; for low resolution, and a
    sketch of colors alone, one minus half the mean difference of the shrunken image and the condition's.

    Args:
        images: [B, 3, H, W] in -1..1, as large as the canvas that is guided, or one condition for all of them.
    Raises:
        ValueError: guided by something that an image can't be compared with.
    """
    kind = bundle.condition_config.kind
    if isinstance(prepared.condition, SketchCondition):
        return sketch_agreement(prepared.condition, prepared.canvas, bundle.vqgan.config.stride, images.cpu())
    if kind not in ("edges", "low-resolution"):
        raise ValueError(
            f"this model is guided by {kind}; agreement is measured for edges, sketches and low resolution"
        )
    wanted = show_condition(bundle, prepared).cpu()
    wanted = wanted.repeat(-(-len(images) // len(wanted)), 1, 1, 1)[: len(images)]
    if kind == "edges":
        return edge_agreement(canny(images.cpu()), wanted)
    small = F.interpolate(images.cpu(), wanted.shape[2:], mode="area")
    return 1 - (small - wanted).abs().mean((1, 2, 3)) / 2


def sketch_agreement(condition: SketchCondition, canvas: Canvas, stride: int, images: Tensor) -> Tensor:
    """`condition_agreement` of images [B, 3, H, W] with the lines of a sketch, or else with its colors.

    Raises:
        ValueError: it has neither.
    """
    guided = len(canvas.indices)
    times = -(-len(images) // guided)

    def for_each(part: Tensor) -> Tensor:
        return part.expand(guided, -1, -1, -1).repeat(times, 1, 1, 1)[: len(images)]

    if condition.lines is not None and condition.lines[:, 1].any():
        sides = [side * stride for side in canvas.size]
        lines = crop_padding(F.interpolate(condition.lines[:, :1], sides), canvas.padding, stride) * 2 - 1
        return edge_agreement(canny(images), for_each(lines))
    if condition.colors is None or not condition.colors[:, 3].any():
        raise ValueError("the sketch has neither lines nor colors that a picture could agree with; give it some")
    wanted, known = for_each(condition.colors).split([3, 1], 1)
    means = F.adaptive_avg_pool2d(pad_to_multiple(images, stride), (wanted.shape[2], wanted.shape[3]))
    return 1 - ((means - wanted).abs() * known).mean(1).sum((1, 2)) / known.sum((1, 2, 3)) / 2


def expand_batch(prepared: PreparedCondition, canvas: Canvas | None, images: int) -> tuple[Condition, Canvas]:
    """Condition and canvas for `images` new images of each that is guided.

    Args:
        canvas: what is known already; None for nothing. One is used for all guided images.
    Raises:
        ValueError: less than one image, or a canvas of several images and a condition of another number.
    """
    if images < 1:
        raise ValueError(f"{images} pictures can't be made; ask for at least 1")
    canvas = canvas or prepared.canvas
    conditions, given = len(prepared.canvas.indices), len(canvas.indices)
    if conditions != given and 1 not in (conditions, given):
        raise ValueError(
            f"the condition is for {conditions} images and the canvas holds {given}; give one of them, or as many"
        )
    if given < conditions:
        canvas = canvas.repeat(conditions)
    return repeat(prepared.condition, images), canvas.repeat(images)
