"""Words of a command line as those that a model knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...core.bundle import Bundle


def known_words(bundle: Bundle, text: str) -> tuple[int, ...]:
    """Numbers of those words of a text that a model of sketches knows; the others are told. None of an empty text.

    Raises:
        ValueError: words are said to a model that knows none.
    """
    from ...core.conditions.sketch import WORDS

    if not text:
        return ()
    if not (bundle.vocabulary and bundle.vocabulary.words):
        raise ValueError("the model knows no words; leave them out, or choose another one")
    reading = bundle.vocabulary.read(text, WORDS)
    for given, taken in reading.replaced:
        print(f"{given} is taken for {taken}")
    if reading.unknown:
        print(f"unknown to the model and left out: {', '.join(reading.unknown)}")
    return reading.words
