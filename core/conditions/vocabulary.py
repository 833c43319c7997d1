"""Words and styles a prior was trained on, and what a text says in them.

A prior knows names and keywords ("strawberry", "red fruit"), not sentences: a text gives those of its words that are
known, the longest phrases first. Words of another language stand for the same numbers; a word that is not known gives
the nearest one that is, and says so.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

MAX_PHRASE = 5  # words of a phrase
NEAREST = 0.8  # how alike two spellings must be, 0 to 1
IGNORED = frozenset(
    {"a", "an", "the", "and", "of", "with", "el", "la", "los", "las", "un", "una", "y", "de", "del", "con"}
)


@dataclass(frozen=True)
class Reading:
    """What a text says: numbers of known words; `replaced` (given, taken); `unknown`, which say nothing."""

    words: tuple[int, ...]
    replaced: tuple[tuple[str, str], ...] = ()
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Vocabulary:
    """styles and words by number; `translations` gives words of other languages in those that are known.

    Raises:
        ValueError: a name twice, or a translation to a word that is not there.
    """

    styles: tuple[str, ...]
    words: tuple[str, ...]
    translations: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        for names, kind in ((self.styles, "style"), (self.words, "word")):
            if len(set(names)) < len(names):
                raise ValueError(f"a {kind} of the vocabulary stands there twice; each needs one number")
        if unknown := sorted(set(self.translations.values()) - set(self.words)):
            raise ValueError(f"the vocabulary translates to {unknown[0]!r}, which is not one of its words")

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Of each word, and of each translation."""
        own = {word: number for number, word in enumerate(self.words)}
        return {foreign: own[word] for foreign, word in self.translations.items()} | own

    @property
    def rows(self) -> int:
        """How many tokens it takes: the styles, the words, and one of each that says nothing."""
        return len(self.styles) + 1 + len(self.words) + 1

    def style(self, name: str) -> int:
        """A style's number; ValueError for one that is not there."""
        if name not in self.styles:
            raise ValueError(f"style {name!r} is unknown; choose one of {', '.join(self.styles)}")
        return self.styles.index(name)

    def read(self, text: str, most: int) -> Reading:
        """The first `most` known words and phrases of a text; upper case and commas make no difference."""
        left = re.findall(r"[^\s,;.:!?¡¿\"()]+", text.lower())
        words, replaced, unknown = [], [], []
        while left:
            length = next(
                (n for n in range(min(MAX_PHRASE, len(left)), 0, -1) if " ".join(left[:n]) in self.numbers), 0
            )
            if length:
                words.append(self.numbers[" ".join(left[:length])])
            elif left[0] not in IGNORED:
                near = self._nearest(left[0])
                if near is None:
                    unknown.append(left[0])
                else:
                    replaced.append((left[0], near))
                    words.append(self.numbers[near])
            left = left[max(1, length) :]
        return Reading(tuple(dict.fromkeys(words))[:most], tuple(replaced), tuple(unknown))

    def _nearest(self, word: str) -> str | None:
        """The known word spelled most alike; its singular where it is a plural."""
        for ending in ("s", "es"):
            if word.endswith(ending) and word.removesuffix(ending) in self.numbers:
                return word.removesuffix(ending)
        return next(iter(difflib.get_close_matches(word, self.numbers, 1, NEAREST)), None)


def vocabulary_from(values: Any, name: str) -> Vocabulary:
    """The vocabulary that the metadata of the file `name` holds; ValueError, naming the file, for anything else."""
    wanted = {"styles": list, "words": list, "translations": dict}
    if not isinstance(values, dict) or {key: type(value) for key, value in values.items()} != wanted:
        raise ValueError(f"{name} has no readable vocabulary in its metadata; fetch it again")
    texts = [*values["styles"], *values["words"], *values["translations"], *values["translations"].values()]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{name} has a vocabulary of other things than words; fetch it again")
    try:
        return Vocabulary(tuple(values["styles"]), tuple(values["words"]), values["translations"])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
