"""Drawings with words: a folder, and a table `captions.tsv` in it that says of each what it is called.

Columns, separated by tabs: `file` (below the folder), `set` (its style), `concept` (what is drawn, whatever the style),
`label_en`, `tags_en`, `label_es`, `tags_es` (names and keywords in English and Spanish, keywords joined by a vertical
bar) and `held_out` (1 for concepts that are never learned from).
"""

from __future__ import annotations

import csv
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...core.conditions.vocabulary import Vocabulary

logger = logging.getLogger("tessera")

TABLE = "captions.tsv"
COLUMNS = ("file", "set", "concept", "label_en", "tags_en", "label_es", "tags_es", "held_out")
LONGEST = 40  # letters of a word or phrase
ALIKE = 0.08  # how well a foreign keyword must agree with an English one to be taken for it, 0 to 1


@dataclass(frozen=True)
class Caption:
    """A row of the table."""

    file: str
    style: str
    concept: str
    name: str
    keywords: tuple[str, ...]
    foreign_name: str
    foreign_keywords: tuple[str, ...]
    held_out: bool


def read_captions(folder: str | Path) -> list[Caption]:
    """All rows whose file is there.

    Raises:
        FileNotFoundError: no folder, or no table in it.
        ValueError: a table without one of the columns, or with nothing to learn from or to hold out.
    """
    path = Path(folder) / TABLE
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; put the table of names beside the drawings")
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        if missing := [name for name in COLUMNS if name not in (rows.fieldnames or ())]:
            raise ValueError(f"{path} has no column {missing[0]!r}; it needs {', '.join(COLUMNS)}")
        captions = [caption_of(row) for row in rows if (path.parent / row["file"]).is_file()]
    if len({caption.held_out for caption in captions}) < 2:
        raise ValueError(f"{path} names no drawing to learn from, or none that is held out; held_out is 0 or 1")
    return captions


def held_out_files(folder: str | Path) -> set[str] | None:
    """The files, below the folder, that its table holds out; None where no table has a column that says so.

    Raises:
        ValueError: the table holds out all of them, or none.
    """
    path = Path(folder) / TABLE
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        if not {"file", "held_out"} <= set(rows.fieldnames or ()):
            return None
        held_out = {row["file"]: row["held_out"] == "1" for row in rows}
    if len(set(held_out.values())) < 2:
        raise ValueError(f"{path} holds out {sum(held_out.values())} of {len(held_out)} pictures; some are needed")
    return {name for name, out in held_out.items() if out}


def caption_of(row: dict[str, str]) -> Caption:
    """A row of the table, its words in lower case."""
    keywords, foreign = (tuple(filter(None, map(plain, row[name].split("|")))) for name in ("tags_en", "tags_es"))
    names = plain(row["label_en"]), plain(row["label_es"])
    return Caption(
        row["file"], row["set"], row["concept"], names[0], keywords, names[1], foreign, row["held_out"] == "1"
    )


def plain(text: str) -> str:
    """Lower case, without quotation marks, single spaces."""
    return " ".join(text.lower().replace("“", "").replace("”", "").split())


def load_drawings(folder: str | Path, captions: list[Caption], size: int, cache: Path) -> Tensor:
    """All drawings as uint8 RGBA [N, 4, size, size], read once; `cache` is a file to keep them in."""
    shape = (len(captions), size, size, 4)
    if cache.is_file():
        kept = np.load(cache, mmap_mode="c")  # read from the file as they are needed
        if kept.shape == shape:
            return torch.from_numpy(kept).permute(0, 3, 1, 2)
    logger.info("reading %d drawings", len(captions))
    pixels = np.empty(shape, np.uint8)

    def read(number: int) -> None:
        with Image.open(Path(folder) / captions[number].file) as image:
            pixels[number] = image.convert("RGBA").resize((size, size), Image.Resampling.LANCZOS)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(read, range(len(captions))):
            pass
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.save(cache, pixels)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def learn_vocabulary(captions: Iterable[Caption], least: int) -> Vocabulary:
    """Names and keywords that at least `least` drawings have, the most frequent first, and what foreign ones mean.

    Of equally frequent words the first one of the alphabet comes first: a run that goes on in another process, where
    sets have another order, must give its words the same numbers.

    A foreign name means the English name of the same drawing; a foreign keyword, in whose place no order helps, the
    English one that stands with the same concepts.
    """
    captions = list(captions)
    counts = Counter(word for c in captions for word in {c.name, *c.keywords} if 0 < len(word) < LONGEST)
    words = tuple(word for word in most_frequent(counts) if counts[word] >= least)
    known = set(words)
    meanings = defaultdict(Counter)
    for caption in captions:
        if caption.name in known and caption.foreign_name:
            meanings[caption.foreign_name][caption.name] += 1
    translations = {foreign: most_frequent(names)[0] for foreign, names in meanings.items()}
    translations = foreign_keywords(captions, known) | translations
    return Vocabulary(tuple(sorted({c.style for c in captions})), words, translations)


def most_frequent(counts: Counter) -> list[str]:
    """Words by number, and by the alphabet where that is equal."""
    return sorted(counts, key=lambda word: (-counts[word], word))


def foreign_keywords(captions: list[Caption], known: set[str]) -> dict[str, str]:
    """For each foreign keyword the known one whose concepts agree best with its own, if any does."""
    concepts = {c.concept: (set(c.keywords) & known, set(c.foreign_keywords)) for c in captions}
    own, foreign, both = Counter(), Counter(), Counter()
    for words, others in concepts.values():
        own.update(words)
        foreign.update(others)
        both.update((word, other) for word in words for other in others)
    best: dict[str, tuple[float, str]] = {}
    for (word, other), number in sorted(both.items()):
        agreement = number**2 / (own[word] * foreign[other])
        if agreement > max(ALIKE, best.get(other, (0.0, ""))[0]):
            best[other] = (agreement, word)
    return {other: word for other, (_, word) in best.items()}


def word_table(captions: list[Caption], vocabulary: Vocabulary, room: int) -> Tensor:
    """Numbers of each drawing's words [N, room] int64, its name first, or -1 if that is unknown; -1 where none is."""
    table = torch.full((len(captions), room), -1)
    for row, caption in zip(table, captions, strict=True):
        numbers = vocabulary.numbers
        keywords = dict.fromkeys(numbers[word] for word in caption.keywords if word in numbers and word != caption.name)
        found = torch.tensor([numbers.get(caption.name, -1), *keywords])[:room]
        row[: len(found)] = found
    return table
