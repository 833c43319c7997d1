"""A bundle: everything from a condition picture to a new picture, in one file.

picture --condition VQGAN--> prefix --prior--> canvas --VQGAN--> picture
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from .canvas import Canvas
from .condition_pictures import depth, enlarged, segmentation
from .conditioning import (
    ClassCondition,
    Condition,
    CoordinatesCondition,
    ImageCondition,
    NoCondition,
    TokenCondition,
)
from .image import check_images
from .layout import Box, LayoutCondition
from .model_file import (
    ModelFile,
    build_empty,
    build_vqgan,
    config_from,
    load_part,
    part_config,
    read_model_file,
    vqgan_part,
    write_model_file,
)
from .strips import decode_indices
from .transformer import Transformer, TransformerConfig
from .vqgan import VQGAN
from .window import Wrap

ConditionKind = Literal["edges", "depth", "segmentation", "low-resolution", "class", "coordinates", "layout", "none"]
PICTURES = ("edges", "depth", "segmentation", "low-resolution")  # kinds with a VQGAN of their own


@dataclass(frozen=True, kw_only=True)
class ConditionConfig:
    """What a prior's prefix is made of.

    kind: "edges", white lines on black; "depth", near is bright; "segmentation", label maps; "low-resolution",
        a smaller picture of the same; "class" labels; "coordinates" on the canvas; scene "layout" tokens; "none",
        a start token.
    offset: first vocabulary row of the condition's tokens; 0 where they share rows with the picture's codes.
    labels: how many classes or segments there are; for "coordinates", into how many steps they are cut.
    factor: for "low-resolution", how many times as large the new picture's sides are.
    free: for "edges", whether the prior has also learned pictures without them, and then paints as it likes.
    """

    kind: ConditionKind
    offset: int = 0
    labels: int = 0
    factor: int = 0
    free: bool = False

    def __post_init__(self):
        if self.kind not in get_args(ConditionKind):
            raise ValueError(f"condition kind {self.kind!r} is unknown; use {', '.join(get_args(ConditionKind))}")
        if self.kind in ("segmentation", "class", "coordinates") and self.labels < 1:
            raise ValueError(f"a condition of kind {self.kind} needs to know how many labels there are")
        if self.kind == "low-resolution" and self.factor < 1:
            raise ValueError("a condition of kind low-resolution needs a factor of at least 1, such as 4")
        if self.free and self.kind != "edges":
            raise ValueError(f"a prior guided by {self.kind} can't be free of it; only edges can be left out")
        if self.offset < 0:
            raise ValueError(f"the condition's offset is {self.offset}; choose a row of the vocabulary, from 0")


@dataclass(frozen=True)
class Bundle:
    """Models that belong together; `condition_vqgan` for conditions that are pictures, None for the others."""

    vqgan: VQGAN
    prior: Transformer
    condition_config: ConditionConfig
    condition_vqgan: VQGAN | None = None

    def __post_init__(self):
        config, kind = self.prior.config, self.condition_config.kind
        codes = self.vqgan.config.codebook_size
        if codes != config.codebook_size:
            raise ValueError(
                f"the prior speaks of {config.codebook_size} codes, the VQGAN has {codes}; "
                "use the file that the prior was trained with"
            )
        if (self.condition_vqgan is not None) != (kind in PICTURES):
            raise ValueError(
                f"a condition of kind {kind} {'needs a' if kind in PICTURES else 'has no'} VQGAN of its own"
            )
        if self.condition_vqgan is not None:
            own = self.condition_vqgan.config.codebook_size
        else:
            own = self.condition_config.labels or 1
        if self.condition_config.offset + own > config.vocab_size:
            raise ValueError(
                f"the condition has {own} codes, the prior only knows "
                f"{config.vocab_size - self.condition_config.offset}; use the file that the prior was trained with"
            )

    def condition(
        self, given: Tensor | list[Box] | None = None, canvas_size: tuple[int, int] | None = None
    ) -> Condition:
        """What guides a sample.

        Args:
            given: by kind. "edges": [B, 1 or 3, H, W] in -1..1, white lines on black. "depth": [B, 1 or 3, H, W]
                of any scale, near is bright. "segmentation": labels [B, H, W] int64. "low-resolution":
                [B, 3, H/factor, W/factor] in -1..1. "class": labels [B] int64. "layout": boxes, or for a canvas of
                one window `layout.layout_tokens` of them. "coordinates" and "none": None, as "edges" may be of a
                prior that is `free`: it paints whatever it likes. H and W are multiples of the stride.
            canvas_size: height and width in cells; needed for "coordinates", and for a "layout" on a canvas larger
                than the window.
        Raises:
            ValueError: something missing, not asked for, or that can't be used.
        """
        kind, offset, labels = self.condition_config.kind, self.condition_config.offset, self.condition_config.labels
        if given is None and self.condition_config.free:
            return self.without_edges
        if (given is None) != (kind in ("coordinates", "none")):
            raise ValueError(
                f"this prior is guided by {kind}: {'leave the input out' if given is not None else 'give it'}"
            )
        match kind:
            case "none":
                return NoCondition(offset)
            case "coordinates":
                if canvas_size is None:
                    raise ValueError("coordinates need the size of the canvas in cells")
                return CoordinatesCondition(canvas_size, labels, self.vqgan.config.stride, offset)
            case "class":
                return ClassCondition(given, labels, offset)
            case "layout":
                if isinstance(given, Tensor):
                    return TokenCondition(given + offset)
                side, vocabulary = self.prior.config.window, self.prior.config.vocab_size - offset
                return LayoutCondition(given, canvas_size or (side, side), vocabulary, offset)
            case "segmentation":
                return self.picture_condition(segmentation(given, labels))
            case "depth":
                return self.picture_condition(depth(given))
            case "low-resolution":
                factor = self.condition_config.factor
                size = (given.shape[-2] * factor, given.shape[-1] * factor)
                return self.picture_condition(enlarged(given, size))
            case "edges":
                check_images(given, "the condition picture")
                return self.picture_condition(given.mean(1, keepdim=True))

    @torch.inference_mode()
    def picture_condition(self, pictures: Tensor) -> ImageCondition:
        """Condition pictures [B, C, H, W], prepared, as codes of their VQGAN; one channel serves any number."""
        if pictures.shape[1] == 1:
            pictures = pictures.expand(-1, self.condition_vqgan.config.image_channels, -1, -1)
        (height, width), stride = pictures.shape[-2:], self.vqgan.config.stride
        if height % stride or width % stride:
            raise ValueError(
                f"the condition picture is {width}x{height} pixels, both sides must be multiples of {stride}, "
                "a cell of the picture to be made; pad it first"
            )
        indices = self.condition_vqgan.encode_indices(pictures.to(self.condition_vqgan.quant_conv.weight))
        contrast = self.without_edges if self.condition_config.free else None
        return ImageCondition(indices, (height // stride, width // stride), self.condition_config.offset, contrast)

    @cached_property
    def without_edges(self) -> TokenCondition:
        """What a prior that is `free` was given where it learned a picture without its edges; worked out once."""
        side = self.prior.config.window * self.vqgan.config.stride
        return TokenCondition(codes_of_nothing(self.condition_vqgan, side) + self.condition_config.offset)

    def empty_canvas(self, batch: int) -> Canvas:
        """A canvas of one window, all unknown."""
        side = self.prior.config.window
        return Canvas.empty(batch, side, side)

    @torch.inference_mode()
    def decode(self, canvas: Canvas, wrap: Wrap | None = None) -> Tensor:
        """Canvas of [B, h, w] cells -> pictures [B, 3, H, W], clamped to -1..1; seamless where `wrap` says so, or by
        itself the canvas. One after the other: a picture is the same to the last bit whatever else is decoded."""
        each, wrap = canvas.indices.to(self.vqgan.post_quant_conv.weight.device).split(1), wrap or canvas.wrap
        return torch.cat([decode_indices(self.vqgan, one, wrap).clamp_(-1, 1) for one in each])


@torch.inference_mode()
def codes_of_nothing(vqgan: VQGAN, side: int) -> Tensor:
    """Codes [1, P] of a black picture of `side` pixels: edges of nothing."""
    black = -torch.ones(1, vqgan.config.image_channels, side, side)
    return vqgan.encode_indices(black.to(vqgan.quant_conv.weight)).flatten(1)


def save_bundle(path: str | Path, bundle: Bundle, **metadata: Any) -> None:
    """Write a bundle; `metadata` (half, license, trained_on) as for `write_model_file`.

    A VQGAN that encodes its own condition, as super-resolution's may, is written once.
    """
    config, parts = {}, {}
    config["vqgan"], parts["vqgan"] = vqgan_part(bundle.vqgan)
    config["prior"], parts["prior"] = prior_part(bundle.prior)
    config["condition"] = dataclasses.asdict(bundle.condition_config)
    if bundle.condition_vqgan is not None and bundle.condition_vqgan is not bundle.vqgan:
        config["condition_vqgan"], parts["condition"] = vqgan_part(bundle.condition_vqgan)
    write_model_file(path, "bundle", config, parts, **metadata)


def load_bundle(path: str | Path) -> Bundle:
    """Read a bundle, ready for use; errors as `read_model_file`."""
    file = read_model_file(path)
    condition = config_from(ConditionConfig, part_config(file, "condition"), file.path.name)
    vqgan, prior = build_vqgan(file, "vqgan", part_config(file, "vqgan")), build_prior(file)
    condition_vqgan = None
    if condition.kind in PICTURES:
        condition_vqgan = vqgan if encodes_itself(file) else build_condition_vqgan(file)
    return joined(file.path.name, vqgan, prior, condition, condition_vqgan)


def joined(
    name: str, vqgan: VQGAN, prior: Transformer, condition: ConditionConfig, condition_vqgan: VQGAN | None
) -> Bundle:
    """A bundle of what the file `name` holds; ValueError, naming it, where the parts don't belong together."""
    try:
        return Bundle(vqgan, prior, condition, condition_vqgan)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def load_condition_vqgan(path: str | Path) -> VQGAN:
    """The condition's VQGAN of a bundle, or the VQGAN of a "vqgan" file; errors as `read_model_file`."""
    file = read_model_file(path)
    if file.kind == "vqgan" or encodes_itself(file):
        return build_vqgan(file, "vqgan", part_config(file, "vqgan"))
    return build_condition_vqgan(file)


def encodes_itself(file: ModelFile) -> bool:
    """True for a bundle of super-resolution whose only VQGAN encodes the small pictures too."""
    return "condition_vqgan" not in file.config and file.config.get("condition", {}).get("kind") == "low-resolution"


def build_condition_vqgan(file: ModelFile) -> VQGAN:
    """The VQGAN that a bundle has for its condition alone."""
    return build_vqgan(file, "condition", part_config(file, "condition_vqgan"))


def prior_part(prior: Transformer) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and tensors of a prior."""
    return dataclasses.asdict(prior.config), prior.state_dict()


def save_prior(path: str | Path, prior: Transformer, condition: ConditionConfig, **metadata: Any) -> None:
    """Write a prior, and what guides it, as a file of kind "prior"."""
    config, tensors = prior_part(prior)
    config = {"prior": config, "condition": dataclasses.asdict(condition)}
    write_model_file(path, "prior", config, {"prior": tensors}, **metadata)


def build_prior(file: ModelFile) -> Transformer:
    """The prior that a file holds."""
    config = config_from(TransformerConfig, part_config(file, "prior"), file.path.name)
    prior = build_empty(Transformer, config, file.path.name)
    load_part(prior, file, "prior")
    return prior


def load_prior(path: str | Path) -> Transformer:
    """The prior of a "prior" or "bundle" file, ready for use; errors as `read_model_file`."""
    return build_prior(read_model_file(path))
