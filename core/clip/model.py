"""A CLIP with the tokenizer of its weights, which is of no use to any other."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .encoder import CLIP
from .tokenizer import Tokenizer


class ClipModel(NamedTuple):
    """A CLIP and the tokenizer that it was trained with.

    right_pairs: cosines [n], ascending, of held-out images and their own names, where they are known: what is good.
    like_pairs: the same of two held-out images of one thing.
    """

    clip: CLIP
    tokenizer: Tokenizer
    right_pairs: Tensor | None = None
    like_pairs: Tensor | None = None
