"""Captions of pictures as words that a prior learns."""

import re
from collections import Counter
from collections.abc import Iterable

from ....core.conditions.vocabulary import IGNORED, Vocabulary

LEAST = 2  # pictures that a word must be said of to be learned
MOST = 4096  # words


def learn_words(captions: Iterable[str]) -> Vocabulary:
    """The words that are said of several pictures, the most frequent first; ValueError where there is none."""
    counts = Counter(word for caption in captions for word in set(words_of(caption)))
    words = tuple(word for word, number in counts.most_common(MOST) if number >= LEAST)
    if not words:
        raise ValueError(f"no word of condition.table is said of {LEAST} pictures to learn from; add captions")
    return Vocabulary((), words)


def words_of(caption: str) -> list[str]:
    """In lower case, without those that say nothing."""
    return [word for word in re.findall(r"[^\s,;.:!?¡¿\"()]+", caption.lower()) if word not in IGNORED]
