"""What a prior is conditioned on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

ConditionKind = Literal[
    "edges",
    "depth",
    "segmentation",
    "low-resolution",
    "class",
    "coordinates",
    "layout",
    "text",
    "words",
    "sketch",
    "none",
]


@dataclass(frozen=True, kw_only=True)
class ConditionConfig:
    """What a prior's prefix is made of.

    kind: "edges", white lines on black; "depth", near is bright; "segmentation", label maps; "low-resolution",
        a smaller picture of the same; "class" labels; "coordinates" on the canvas; scene "layout" tokens; "text",
        prompts; "words" of captions; "sketch", style, words, colors and lines; "none", a start token.
    offset: first vocabulary row of the condition's tokens; 0 where they share rows with the picture's codes.
    labels: how many classes or segments there are; for "coordinates", into how many steps they are cut.
    factor: for "low-resolution", how many times as large the new picture's sides are.
    unconditional: whether the prior was trained with condition dropout, so that it can also sample unconditionally.
        Instead of a class it is given the token after the last label, instead of edges those of a black image, instead
        of anything else the last row of its vocabulary all along the prefix.
    """

    kind: ConditionKind
    offset: int = 0
    labels: int = 0
    factor: int = 0
    unconditional: bool = False

    def __post_init__(self):
        if self.kind not in get_args(ConditionKind):
            raise ValueError(f"condition kind {self.kind!r} is unknown; use {', '.join(get_args(ConditionKind))}")
        if self.kind in ("segmentation", "class", "coordinates") and self.labels < 1:
            raise ValueError(f"a condition of kind {self.kind} needs to know how many labels there are")
        if self.kind == "low-resolution" and self.factor < 1:
            raise ValueError("a condition of kind low-resolution needs a factor of at least 1, such as 4")
        if self.unconditional and self.kind in ("coordinates", "text", "sketch", "none"):
            raise ValueError(f"a prior guided by {self.kind} has no condition to be left out")
        if self.offset < 0:
            raise ValueError(f"the condition's offset is {self.offset}; choose a row of the vocabulary, from 0")
