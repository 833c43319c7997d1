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
from .conditions.base import Condition, TokenCondition
from .conditions.config import ConditionConfig
from .conditions.control import ControlAREncoder
from .conditions.kinds import KINDS, ConditionContext, build_condition, null_prefix
from .conditions.layout import Box
from .conditions.sketch import SketchEncoder
from .conditions.text import TextFeatures
from .geometry import Wrap
from .priors.any_order import AnyOrderLlama
from .priors.llama import Llama
from .priors.transformer import Transformer


@dataclass(frozen=True)
class Bundle:
    """Models that belong together; `condition_vqgan` for conditions that are pictures, None for the others."""

    vqgan: VQGAN
    prior: Transformer | Llama | AnyOrderLlama
    condition_config: ConditionConfig
    condition_vqgan: VQGAN | None = None
    control: ControlAREncoder | SketchEncoder | None = None  # what adds to the prior's stream cell by cell

    def __post_init__(self):
        config, kind = self.prior.config, self.condition_config.kind
        codes = self.vqgan.config.codebook_size
        if codes != config.codebook_size:
            raise ValueError(
                f"the prior speaks of {config.codebook_size} codes, the VQGAN has {codes}; "
                "use the file that the prior was trained with"
            )
        if (self.condition_vqgan is not None) != (KINDS[kind].has_vqgan):
            raise ValueError(
                f"a condition of kind {kind} {'needs a' if KINDS[kind].has_vqgan else 'has no'} VQGAN of its own"
            )
        if (kind == "text") != (getattr(config, "feature_width", 0) > 0):
            raise ValueError(f"a condition of kind {kind} does not guide this prior; use the file it was trained with")
        if kind == "text":
            own = 0
        elif self.condition_vqgan is not None:
            own = self.condition_vqgan.config.codebook_size
        else:
            own = (self.condition_config.labels or 1) + (kind == "class" and self.condition_config.unconditional)
        if self.condition_config.offset + own > config.vocab_size:
            raise ValueError(
                f"the condition has {own} codes, the prior only knows "
                f"{config.vocab_size - self.condition_config.offset}; use the file that the prior was trained with"
            )

    def condition(
        self, given: Tensor | list[Box] | TextFeatures | None = None, canvas_size: tuple[int, int] | None = None
    ) -> Condition:
        """What guides a sample.

        Args:
            given: by kind. "edges": [B, 1 or 3, H, W] in -1..1, white lines on black. "depth": [B, 1 or 3, H, W]
                of any scale, near is bright. "segmentation": labels [B, H, W] int64. "low-resolution":
                [B, 3, H/factor, W/factor] in -1..1. "class": labels [B] int64. "layout": boxes, or for a canvas of
                one window `layout.layout_tokens` of them. "text": features of prompts. "coordinates" and "none": None,
                as "edges" and "class" may be of a prior trained with condition dropout: it samples unconditionally. H
                and W are multiples of the stride.
            canvas_size: height and width in cells; needed for "coordinates", and for a "layout" on a canvas larger
                than the window.
        Raises:
            ValueError: something missing, not asked for, or that can't be used.
        """
        return build_condition(self.condition_context, given, canvas_size)

    @property
    def condition_context(self) -> ConditionContext:
        """What conditions are built for."""
        return ConditionContext(
            self.condition_config,
            self.vqgan.config.stride,
            self.prior.config.window,
            self.prior.config.vocab_size,
            self.condition_vqgan,
            self.unconditional_condition if self.condition_config.unconditional else None,
            self.null_text if self.condition_config.kind == "text" else None,
        )

    @property
    def null_text(self) -> Tensor:
        """What a prior of prompts was trained with in place of a text, [1, P, F]."""
        return self.prior.cls_embedding.uncond_embedding.detach().float().cpu().unsqueeze(0)

    @cached_property
    def unconditional_condition(self) -> TokenCondition:
        """What a prior trained with condition dropout was given instead of its condition; computed once."""
        if self.condition_config.kind == "class":
            return TokenCondition(torch.tensor([[self.condition_config.offset + self.condition_config.labels]]))
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
