"""A bundle: everything from a condition picture to a new picture, in one file.

picture --condition VQGAN--> prefix --prior--> canvas --VQGAN--> picture
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .autoencoders.strip_decoder import decode_indices
from .autoencoders.vqgan import VQGAN
from .canvas.canvas import Canvas
from .conditions.base import Condition, StartToken, TokenCondition
from .conditions.config import IMAGE_KINDS, ConditionConfig
from .conditions.label import ClassCondition
from .conditions.layout import Box, LayoutCondition
from .conditions.maps import depth, enlarge, segmentation
from .conditions.spatial import CoordinatesCondition, SpatialCondition
from .geometry import Wrap
from .images.io import check_images
from .priors.transformer import Transformer


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
        if (self.condition_vqgan is not None) != (kind in IMAGE_KINDS):
            raise ValueError(
                f"a condition of kind {kind} {'needs a' if kind in IMAGE_KINDS else 'has no'} VQGAN of its own"
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
                prior trained with condition dropout: it samples unconditionally. H and W are multiples of the stride.
            canvas_size: height and width in cells; needed for "coordinates", and for a "layout" on a canvas larger
                than the window.
        Raises:
            ValueError: something missing, not asked for, or that can't be used.
        """
        kind, offset, labels = self.condition_config.kind, self.condition_config.offset, self.condition_config.labels
        if given is None and self.condition_config.unconditional:
            return self.unconditional_condition
        if (given is None) != (kind in ("coordinates", "none")):
            raise ValueError(
                f"this prior is guided by {kind}: {'leave the input out' if given is not None else 'give it'}"
            )
        match kind:
            case "none":
                return StartToken(offset)
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
                return self.spatial_condition(segmentation(given, labels))
            case "depth":
                return self.spatial_condition(depth(given))
            case "low-resolution":
                factor = self.condition_config.factor
                size = (given.shape[-2] * factor, given.shape[-1] * factor)
                return self.spatial_condition(enlarge(given, size))
            case "edges":
                check_images(given, "the condition picture")
                return self.spatial_condition(given.mean(1, keepdim=True))

    @torch.inference_mode()
    def spatial_condition(self, images: Tensor) -> SpatialCondition:
        """Condition pictures [B, C, H, W], prepared, as codes of their VQGAN; one channel serves any number."""
        if images.shape[1] == 1:
            images = images.expand(-1, self.condition_vqgan.config.image_channels, -1, -1)
        (height, width), stride = images.shape[-2:], self.vqgan.config.stride
        if height % stride or width % stride:
            raise ValueError(
                f"the condition picture is {width}x{height} pixels, both sides must be multiples of {stride}, "
                "a cell of the picture to be made; pad it first"
            )
        indices = self.condition_vqgan.encode_indices(images.to(self.condition_vqgan.quant_conv.weight))
        unconditional = self.unconditional_condition if self.condition_config.unconditional else None
        return SpatialCondition(
            indices, (height // stride, width // stride), self.condition_config.offset, unconditional
        )

    @cached_property
    def unconditional_condition(self) -> TokenCondition:
        """What a prior that is `free` was given where it learned a picture without its edges; worked out once."""
        side = self.prior.config.window * self.vqgan.config.stride
        return TokenCondition(null_prefix(self.condition_vqgan, side) + self.condition_config.offset)

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
def null_prefix(vqgan: VQGAN, side: int) -> Tensor:
    """Codes [1, P] of a black picture of `side` pixels: edges of nothing."""
    black = -torch.ones(1, vqgan.config.image_channels, side, side)
    return vqgan.encode_indices(black.to(vqgan.quant_conv.weight)).flatten(1)
