"""A CLIP with the tokenizer of its weights, which is of no use to any other."""

from __future__ import annotations

from typing import NamedTuple

from .encoder import CLIP
from .tokenizer import Tokenizer


class ClipModel(NamedTuple):
    """A CLIP and the tokenizer that it was trained with."""

    clip: CLIP
    tokenizer: Tokenizer
