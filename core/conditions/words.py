"""Words of a caption as prefix tokens: those that the prior learned, in no order."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Condition, TokenCondition
from .sketch import WORDS
from .vocabulary import Vocabulary


def word_tokens(numbers: tuple[int, ...] | list[int], vocabulary: Vocabulary) -> Tensor:
    """At most 8 words by number, sorted, then the token of no word: [8] int64."""
    given = sorted(numbers)[:WORDS]
    return torch.tensor(given + [len(vocabulary.words)] * (WORDS - len(given)))


def words_condition(
    texts: str | list[str], vocabulary: Vocabulary, offset: int, unconditional: Condition | None = None
) -> TokenCondition:
    """The condition of captions, one for each image.

    Args:
        texts: captions, of which the first 8 words that the vocabulary knows count.
        offset: first vocabulary row of the tokens.
    Raises:
        ValueError: a text of which no word is known.
    """
    rows = []
    for text in [texts] if isinstance(texts, str) else texts:
        reading = vocabulary.read(text, WORDS)
        if text.strip() and not reading.words:
            known = ", ".join(vocabulary.words[:12])
            raise ValueError(f"this model knows none of the words {text[:60]!r}; it knows {known} and others")
        rows.append(word_tokens(reading.words, vocabulary))
    return TokenCondition(torch.stack(rows) + offset, unconditional)
