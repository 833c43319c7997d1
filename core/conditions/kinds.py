"""The kinds of condition: one table, kind -> what it takes, what its prefix is made of and how it is built.

To add a kind, write its builder and give it a row in `KINDS`; nothing else has to know of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..autoencoders.base import FirstStage
from ..autoencoders.strips.encoder import encode_indices
from ..images.io import check_images
from ..priors.base import Prior
from ..priors.llama import Llama
from .base import Condition, StartToken, TokenCondition
from .control import ControlAREncoder
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


@dataclass(frozen=True, kw_only=True)
class ConditionConfig:
    """What a prior's prefix is made of.

    kind: a row of `KINDS`: "edges", white lines on black; "depth", near is bright; "segmentation", label maps;
        "low-resolution", a smaller image of the same; "class" labels; "coordinates" on the canvas; scene "layout"
        tokens; "text", prompts; "words" of captions; "sketch", style, words, colors and lines; "none", a start token.
    offset: first vocabulary row of the condition's tokens; 0 where they share rows with the image's codes.
    labels: how many classes or segments there are; for "coordinates", into how many steps they are cut.
    factor: for "low-resolution", how many times as large the new image's sides are.
    unconditional: whether the prior was trained with condition dropout, so that it can also sample unconditionally,
        given the tokens of `ConditionKind.nothing` instead.
    """

    kind: str
    offset: int = 0
    labels: int = 0
    factor: int = 0
    unconditional: bool = False

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"condition kind {str(self.kind)[:40]!r} is unknown; use {', '.join(KINDS)}")
        row = KINDS[self.kind]
        if "labels" in row.needs and self.labels < 1:
            raise ValueError(f"a condition of kind {self.kind} needs to know how many labels there are")
        if "factor" in row.needs and self.factor < 1:
            raise ValueError(f"a condition of kind {self.kind} needs a factor of at least 1, such as 4")
        if self.unconditional and row.nothing is None:
            raise ValueError(f"a prior guided by {self.kind} has no condition to be left out")
        if self.offset < 0:
            raise ValueError(f"the condition's offset is {self.offset}; choose a row of the vocabulary, from 0")

    @property
    def optional(self) -> bool:
        """Whether the prior also paints with nothing given."""
        row = KINDS[self.kind]
        return self.unconditional or not row.takes_input or row.empty is not None


@dataclass(frozen=True)
class ConditionContext:
    """The models that a condition is for.

    stride: pixels per cell of the canvas. vqgan: the condition's own. control: what adds to the prior's stream cell by
        cell. vocabulary: the words and styles that the prior knows.
    """

    config: ConditionConfig
    stride: int
    prior: Prior
    vqgan: FirstStage | None = None
    control: nn.Module | None = None
    vocabulary: Vocabulary | None = None

    @cached_property
    def unconditional(self) -> TokenCondition | None:
        """What the prior was given instead of a condition if it was trained with condition dropout; computed once."""
        nothing = KINDS[self.config.kind].nothing
        return TokenCondition(nothing(self)) if self.config.unconditional and nothing else None


def _last_row(context: ConditionContext) -> Tensor:
    """In place of a condition: the last row of the prior's vocabulary all along the prefix, [1, P]."""
    config = context.prior.config
    return torch.full((1, config.prefix_length), config.vocab_size - 1)


def _codes_and_nothing(context: ConditionContext) -> int:
    """Rows of the vocabulary: the codes of the condition's VQGAN, and one for nothing."""
    assert context.vqgan is not None
    return context.vqgan.config.codebook_size + context.config.unconditional


class ConditionKind(NamedTuple):
    """A row of the table.

    build: (context, input, canvas size) -> condition.
    rows: how many rows of the vocabulary its tokens need, from the offset on.
    prefix_length: of a window of this many cells a side.
    nothing: tokens [1, P] in place of the condition, for condition dropout; None where it can't be left out.
    takes_input: whether `build` is given something. empty: what it is given instead of None.
    needs: what it can't do without: "vqgan", "vocabulary", "control" of the models, "labels", "factor" of the config.
    control: class of the control that may go with it.
    of_features: its prefix is vectors of features, not tokens.
    """

    build: Callable[[ConditionContext, Any, Size | None], Condition]
    rows: Callable[[ConditionContext], int]
    prefix_length: Callable[[int], int] = lambda window: window**2
    nothing: Callable[[ConditionContext], Tensor] | None = _last_row
    takes_input: bool = True
    empty: Any = None
    needs: tuple[str, ...] = ()
    control: type[nn.Module] | None = ControlAREncoder
    of_features: bool = False

    @property
    def has_vqgan(self) -> bool:
        """Whether a VQGAN of its own encodes it."""
        return "vqgan" in self.needs


def check_models(context: ConditionContext) -> None:
    """Raise ValueError for models that do not go with their kind of condition."""
    name, kind, prior = context.config.kind, KINDS[context.config.kind], context.prior.config
    if (getattr(prior, "feature_width", 0) > 0) != kind.of_features:
        raise ValueError(f"a condition of kind {name} does not guide this prior; use the file it was trained with")
    for part, words in (("vqgan", "VQGAN of its own"), ("vocabulary", "vocabulary")):
        given = getattr(context, part) is not None
        if given != (part in kind.needs):
            raise ValueError(f"a condition of kind {name} {'has no' if given else 'needs a'} {words}")
    if context.control is None and "control" in kind.needs:
        raise ValueError(f"a condition of kind {name} needs an encoder; use the file it was trained with")
    if context.control is not None and (kind.control is None or not isinstance(context.control, kind.control)):
        raise ValueError(f"a condition of kind {name} has no {type(context.control).__name__}")
    if context.config.offset + (rows := kind.rows(context)) > prior.vocab_size:
        raise ValueError(
            f"the condition has {rows} codes, the prior only knows {prior.vocab_size - context.config.offset}; "
            "use the file that the prior was trained with"
        )


def build_condition(context: ConditionContext, given: Any, canvas_size: Size | None) -> Condition:
    """The condition of a prior for what is given; None samples unconditionally where the prior has learned that.

    Raises:
        ValueError: something missing, not asked for, or that can't be used.
    """
    name, kind = context.config.kind, KINDS[context.config.kind]
    if given is None and context.unconditional is not None:
        return context.unconditional
    given = kind.empty if given is None else given
    if (given is None) == kind.takes_input:
        raise ValueError(f"this prior is guided by {name}: {'give it' if given is None else 'leave the input out'}")
    return kind.build(context, given, canvas_size)


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


@torch.no_grad()
def _no_edges(context: ConditionContext) -> Tensor:
    """The codes of a black image, [1, P]."""
    vqgan, side = context.vqgan, context.prior.window * context.stride
    assert vqgan is not None
    black = -torch.ones(1, vqgan.config.image_channels, side, side)
    return vqgan.encode_indices(black.to(vqgan.device, vqgan.dtype)).flatten(1) + context.config.offset


def _depth(context: ConditionContext, given: Tensor, canvas_size: Size | None) -> Condition:
    return spatial_condition(context, depth(given))


def _segmentation(context: ConditionContext, given: Tensor, canvas_size: Size | None) -> Condition:
    return spatial_condition(context, segmentation(given, context.config.labels))


def _low_resolution(context: ConditionContext, given: Tensor, canvas_size: Size | None) -> Condition:
    factor = context.config.factor
    return spatial_condition(context, enlarge(given, (given.shape[-2] * factor, given.shape[-1] * factor)))


def _class_label(context: ConditionContext, given: Tensor, canvas_size: Size | None) -> Condition:
    return ClassCondition(given, context.config.labels, context.config.offset, context.unconditional)


def _no_class(context: ConditionContext) -> Tensor:
    """The token after the last label, [1, 1]."""
    return torch.tensor([[context.config.offset + context.config.labels]])


def _text(context: ConditionContext, given: TextFeatures, canvas_size: Size | None) -> Condition:
    assert isinstance(context.prior, Llama)  # as all priors of prompts are
    nothing = context.prior.cls_embedding.uncond_embedding.detach().float().cpu().unsqueeze(0)  # [1, P, F]
    return TextCondition(given.features, given.mask, nothing)


def _coordinates(context: ConditionContext, given: None, canvas_size: Size | None) -> Condition:
    if canvas_size is None:
        raise ValueError("coordinates need the size of the canvas in cells")
    return CoordinatesCondition(canvas_size, context.config.labels, context.stride, context.config.offset)


def _layout(context: ConditionContext, given: Any, canvas_size: Size | None) -> Condition:
    if isinstance(given, Tensor):
        return TokenCondition(given + context.config.offset, context.unconditional)
    vocabulary = context.prior.config.vocab_size - context.config.offset
    size = canvas_size or (context.prior.window, context.prior.window)
    return LayoutCondition(given, size, vocabulary, context.config.offset, context.unconditional)


def _words(context: ConditionContext, given: str | list[str], canvas_size: Size | None) -> Condition:
    assert context.vocabulary is not None
    return words_condition(given, context.vocabulary, context.config.offset, context.unconditional)


def _sketch(context: ConditionContext, given: Sketch, canvas_size: Size | None) -> Condition:
    encoder, window = context.control, context.prior.window
    assert isinstance(encoder, SketchEncoder)
    assert context.vocabulary is not None
    size = canvas_size or (window, window)
    return sketch_condition(encoder, context.vocabulary, SKETCH_WORDS, context.config.offset, given, size)


def _start_token(context: ConditionContext, given: None, canvas_size: Size | None) -> Condition:
    return StartToken(context.config.offset)


def _own_codes(context: ConditionContext) -> int:
    assert context.vqgan is not None
    return context.vqgan.config.codebook_size


def _labels(context: ConditionContext) -> int:
    return context.config.labels or 1


def _classes(context: ConditionContext) -> int:
    return context.config.labels + context.config.unconditional


def _word_rows(context: ConditionContext) -> int:
    assert context.vocabulary is not None
    return len(context.vocabulary.words) + 1


def _sketch_rows(context: ConditionContext) -> int:
    assert context.vocabulary is not None
    return context.vocabulary.rows


KINDS: dict[str, ConditionKind] = {
    "edges": ConditionKind(_edges, _own_codes, nothing=_no_edges, needs=("vqgan",)),
    "depth": ConditionKind(_depth, _codes_and_nothing, needs=("vqgan",)),
    "segmentation": ConditionKind(_segmentation, _codes_and_nothing, needs=("vqgan", "labels")),
    "low-resolution": ConditionKind(_low_resolution, _codes_and_nothing, needs=("vqgan", "factor")),
    "class": ConditionKind(_class_label, _classes, lambda window: 1, nothing=_no_class, needs=("labels",)),
    "coordinates": ConditionKind(_coordinates, _labels, nothing=None, takes_input=False, needs=("labels",)),
    "layout": ConditionKind(_layout, _labels, lambda window: LAYOUT_LENGTH),
    "text": ConditionKind(_text, lambda context: 0, lambda window: MAX_TOKENS, nothing=None, of_features=True),
    "words": ConditionKind(_words, _word_rows, lambda window: SKETCH_WORDS, needs=("vocabulary",), control=None),
    "sketch": ConditionKind(
        _sketch, _sketch_rows, lambda window: 1 + SKETCH_WORDS, nothing=None, empty=Sketch(),
        needs=("vocabulary", "control"), control=SketchEncoder,
    ),
    "none": ConditionKind(_start_token, _labels, lambda window: 1, nothing=None, takes_input=False),
}  # fmt: skip
