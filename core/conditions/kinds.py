"""The kinds of condition: one table, kind -> what it takes, how long its prefix is and how it is built.

To add a kind, name it in `ConditionKind` (config.py), write its builder here and give it a row in `KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..autoencoders.base import FirstStage
from ..autoencoders.strip_encoder import encode_indices
from ..images.io import check_images
from .base import Condition, StartToken, TokenCondition
from .config import ConditionConfig, ConditionKind
from .label import ClassCondition
from .layout import PREFIX_LENGTH as LAYOUT_LENGTH
from .layout import LayoutCondition
from .maps import depth, enlarge, segmentation
from .sketch import WORDS as SKETCH_WORDS
from .sketch import Sketch, SketchEncoder, sketch_condition
from .spatial import CoordinatesCondition, SpatialCondition
from .text import MAX_TOKENS, TextCondition, TextFeatures
from .vocabulary import Vocabulary
from .words import words_condition

Size = tuple[int, int]  # height and width in cells


@dataclass(frozen=True)
class ConditionContext:
    """What builders know of the models that a condition is for.

    stride: pixels per cell of the canvas. window: cells per side of the prior's window. vocab_size: of the prior.
    vqgan: the condition's own, for kinds that have one. unconditional: what the prior is given instead of a condition,
        if it was trained with condition dropout. null_text [1, P, F]: what stands for no text.
    sketches: what encodes a sketch. vocabulary: what it, or words, can say.
    """

    config: ConditionConfig
    stride: int
    window: int
    vocab_size: int
    vqgan: FirstStage | None = None
    unconditional: Condition | None = None
    null_text: Tensor | None = None
    sketches: SketchEncoder | None = None
    vocabulary: Vocabulary | None = None


Builder = Callable[[ConditionContext, Any, Size | None], Condition]


class Kind(NamedTuple):
    """A row of the table."""

    build: Builder  # (context, input, canvas size) -> condition
    takes_input: bool = True
    has_vqgan: bool = False
    prefix_length: Callable[[int], int] = lambda window: window**2  # of a window of so many cells a side


def build_condition(context: ConditionContext, given: Any, canvas_size: Size | None) -> Condition:
    """The condition of a prior for what is given; None samples unconditionally where the prior has learned that.

    Raises:
        ValueError: something missing, not asked for, or that can't be used.
    """
    name, kind = context.config.kind, KINDS[context.config.kind]
    if given is None and context.unconditional is not None:
        return context.unconditional
    if given is None and context.sketches is not None:
        given = Sketch()
    if (given is None) == kind.takes_input:
        raise ValueError(f"this prior is guided by {name}: {'give it' if given is None else 'leave the input out'}")
    return kind.build(context, given, canvas_size)


@torch.inference_mode()
def null_prefix(vqgan: FirstStage, side: int) -> Tensor:
    """Codes [1, P] of a black image of `side` pixels: edges of nothing."""
    black = -torch.ones(1, vqgan.config.image_channels, side, side)
    return vqgan.encode_indices(black.to(vqgan.device, vqgan.dtype)).flatten(1)


@torch.inference_mode()
def spatial_condition(context: ConditionContext, images: Tensor) -> SpatialCondition:
    """Condition images [B, C, H, W], prepared, as codes of their VQGAN; one channel serves any number."""
    vqgan, stride = context.vqgan, context.stride
    assert vqgan is not None
    if images.shape[1] == 1:
        images = images.expand(-1, vqgan.config.image_channels, -1, -1)
    height, width = images.shape[-2:]
    if height % stride or width % stride:
        raise ValueError(
            f"the condition picture is {width}x{height} pixels, both sides must be multiples of {stride}, "
            "a cell of the picture to be made; pad it first"
        )
    indices = encode_indices(vqgan, images.to(vqgan.device, vqgan.dtype))
    size = height // stride, width // stride
    return SpatialCondition(indices, size, context.config.offset, context.unconditional)


def _edges(context: ConditionContext, given: Tensor, canvas_size: Size | None) -> Condition:
    check_images(given, "the condition picture")
    return spatial_condition(context, given.mean(1, keepdim=True))


def _depth(context: ConditionContext, given: Tensor, canvas_size: Size | None) -> Condition:
    return spatial_condition(context, depth(given))


def _segmentation(context: ConditionContext, given: Tensor, canvas_size: Size | None) -> Condition:
    return spatial_condition(context, segmentation(given, context.config.labels))


def _low_resolution(context: ConditionContext, given: Tensor, canvas_size: Size | None) -> Condition:
    factor = context.config.factor
    return spatial_condition(context, enlarge(given, (given.shape[-2] * factor, given.shape[-1] * factor)))


def _class_label(context: ConditionContext, given: Tensor, canvas_size: Size | None) -> Condition:
    return ClassCondition(given, context.config.labels, context.config.offset, context.unconditional)


def _text(context: ConditionContext, given: TextFeatures, canvas_size: Size | None) -> Condition:
    assert context.null_text is not None
    return TextCondition(given.features, given.mask, context.null_text)


def _coordinates(context: ConditionContext, given: None, canvas_size: Size | None) -> Condition:
    if canvas_size is None:
        raise ValueError("coordinates need the size of the canvas in cells")
    return CoordinatesCondition(canvas_size, context.config.labels, context.stride, context.config.offset)


def _layout(context: ConditionContext, given: Any, canvas_size: Size | None) -> Condition:
    if isinstance(given, Tensor):
        return TokenCondition(given + context.config.offset, context.unconditional)
    vocabulary = context.vocab_size - context.config.offset
    size = canvas_size or (context.window, context.window)
    return LayoutCondition(given, size, vocabulary, context.config.offset, context.unconditional)


def _words(context: ConditionContext, given: str | list[str], canvas_size: Size | None) -> Condition:
    assert context.vocabulary is not None
    return words_condition(given, context.vocabulary, context.config.offset, context.unconditional)


def _sketch(context: ConditionContext, given: Sketch, canvas_size: Size | None) -> Condition:
    assert context.sketches is not None
    assert context.vocabulary is not None
    size = canvas_size or (context.window, context.window)
    return sketch_condition(context.sketches, context.vocabulary, SKETCH_WORDS, context.config.offset, given, size)


def _start_token(context: ConditionContext, given: None, canvas_size: Size | None) -> Condition:
    return StartToken(context.config.offset)


KINDS: dict[ConditionKind, Kind] = {
    "edges": Kind(_edges, has_vqgan=True),
    "depth": Kind(_depth, has_vqgan=True),
    "segmentation": Kind(_segmentation, has_vqgan=True),
    "low-resolution": Kind(_low_resolution, has_vqgan=True),
    "class": Kind(_class_label, prefix_length=lambda window: 1),
    "coordinates": Kind(_coordinates, takes_input=False),
    "layout": Kind(_layout, prefix_length=lambda window: LAYOUT_LENGTH),
    "text": Kind(_text, prefix_length=lambda window: MAX_TOKENS),
    "words": Kind(_words, prefix_length=lambda window: SKETCH_WORDS),
    "sketch": Kind(_sketch, prefix_length=lambda window: 1 + SKETCH_WORDS),
    "none": Kind(_start_token, takes_input=False, prefix_length=lambda window: 1),
}
