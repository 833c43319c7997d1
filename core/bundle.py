"""A bundle: everything from a condition image to a new image, in one file.

image --condition VQGAN--> prefix --prior--> canvas --VQGAN--> image
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from .autoencoders.base import FirstStage
from .canvas.canvas import Canvas
from .canvas.codec import decode_canvas
from .conditions.base import Condition, TokenCondition, repeat
from .conditions.control import ControlAREncoder
from .conditions.kinds import ConditionConfig, ConditionContext, build_condition, check_models
from .conditions.layout import Box
from .conditions.sketch import Sketch, SketchEncoder
from .conditions.text import TextFeatures
from .conditions.vocabulary import Vocabulary
from .geometry import Window
from .prefix import Prefix
from .priors.base import Prior
from .sampling.loop import sample
from .sampling.settings import SamplingSettings
from .sampling.windows import EXACT, Sliding

Control = ControlAREncoder | SketchEncoder


@dataclass(frozen=True)
class SampleResult:
    """What `Bundle.sample` made.

    images [B, 3, H, W] in -1..1. canvas: their codes. entropy, log_probability [B, h, w] in nats, of the model's own
    distribution at each sampled cell and of the code drawn there; 0 where the cell was known.
    """

    images: Tensor
    canvas: Canvas
    entropy: Tensor
    log_probability: Tensor


@dataclass(frozen=True)
class Bundle:
    """Models that belong together; `condition_vqgan` for conditions that are images, None for the others.

    reached: percentiles [101] of what real images reach, by name, as `calibration.scores_of_real`; may be empty.
    """

    vqgan: FirstStage
    prior: Prior
    condition_config: ConditionConfig
    condition_vqgan: FirstStage | None = None
    control: Control | None = None  # what adds to the prior's stream cell by cell
    vocabulary: Vocabulary | None = None  # the styles and words of a sketch, or of captions
    reached: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self):
        known, codes = self.prior.codebook_size, self.vqgan.config.codebook_size
        if codes != known:
            raise ValueError(
                f"the prior was trained on {known} codes, the VQGAN has {codes}; "
                "use the file that the prior was trained with"
            )
        check_models(self.condition_context)

    def condition(
        self,
        given: Tensor | list[Box] | str | list[str] | TextFeatures | Sketch | None = None,
        canvas_size: tuple[int, int] | None = None,
    ) -> Condition:
        """What guides a sample.

        Args:
            given: by kind. "edges": [B, 1 or 3, H, W] in -1..1, white lines on black. "depth": [B, 1 or 3, H, W]
                of any scale, near is bright. "segmentation": labels [B, H, W] int64. "low-resolution":
                [B, 3, H/factor, W/factor] in -1..1. "class": labels [B] int64. "layout": boxes, or for a canvas of
                one window `layout.layout_tokens` of them. "words": a caption, or several. "text": features of prompts.
                "sketch": what an image is asked to show; None is nothing. "coordinates" and "none": None, as any other
                may be of a prior trained with condition dropout: it samples unconditionally. H and W are multiples of
                the stride.
            canvas_size: height and width in cells; needed for "coordinates", and for a "layout" or a "sketch" on a
                canvas larger than the window.
        Raises:
            ValueError: something missing, not asked for, or that can't be used.
        """
        return build_condition(self.condition_context, given, canvas_size)

    @cached_property
    def condition_context(self) -> ConditionContext:
        """What conditions are built for."""
        stride, prior = self.vqgan.config.stride, self.prior
        return ConditionContext(
            self.condition_config, stride, prior, self.condition_vqgan, self.control, self.vocabulary
        )

    @property
    def unconditional_condition(self) -> TokenCondition | None:
        """What the prior was given instead of its condition if it was trained with condition dropout."""
        return self.condition_context.unconditional

    def empty_canvas(self, batch: int) -> Canvas:
        """A canvas of one window, all unknown."""
        side = self.prior.config.window
        return Canvas.empty(batch, side, side)

    @property
    def image_size(self) -> int:
        """Pixels per side of the images it was trained on: the prior's window."""
        return self.prior.config.window * self.vqgan.config.stride

    def sample(
        self,
        condition: Condition | Tensor | list[Box] | str | list[str] | TextFeatures | Sketch | None = None,
        *,
        canvas: Canvas | None = None,
        batch: int = 1,
        seed: int = 0,
        temperature: float | Tensor = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        guidance_scale: float = 1.0,
        sliding: Sliding = EXACT,
    ) -> SampleResult:
        """Sample images.

        Args:
            condition: as for `condition`, or what it returned. None where the prior needs none.
            canvas: known cells, and where it wraps; None is all unknown, one window or as large as the condition.
            batch: images for each condition and canvas; image b of the result has the random numbers of `seed + b`.
            temperature, top_k, top_p, min_p, guidance_scale: see `SamplingSettings`.
            sliding: how the window moves over a canvas larger than it.
        Raises:
            ValueError: settings out of range, or a condition or canvas that doesn't fit the model.
        """
        settings = SamplingSettings(
            temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, guidance_scale=guidance_scale
        )
        if condition is None or isinstance(condition, Tensor | list | str | TextFeatures | Sketch):
            condition = self.condition(condition, canvas.size if canvas else None)
        if canvas is None:
            window = self.prior.config.window
            height, width = condition.canvas_size or (window, window)
            rows = len(Prefix.of(condition.prefix(Window(0, 0, window, window))))
            canvas = Canvas.empty(rows, height, width)
        state = sample(self.prior, repeat(condition, batch), canvas.repeat(batch), seed, settings, sliding)
        state.move_to(torch.device("cpu"))
        return SampleResult(self.decode(state.canvas), state.canvas, state.entropy, state.log_probability)

    def decode(self, canvas: Canvas) -> Tensor:
        """Canvas -> images [B, 3, H, W] in -1..1 on the CPU, as `codec.decode_canvas`: unknown cells are gray, padding
        is cropped, seamless where the canvas wraps."""
        return decode_canvas(self.vqgan, canvas)
