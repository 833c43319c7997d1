"""Drawings with words: a table of captions, the phrases that are true of each concept, and captions put together.

The table is tab-separated: file, set (the style), concept, group, label_en, tags_en, label_es, tags_es (tags joined by
a vertical bar), held_out (1 for concepts that are never learned).
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...core.clip.tokenizer import Tokenizer, clean_text, learn_merges, split_words

COLUMNS = ("file", "set", "concept", "group", "label_en", "tags_en", "label_es", "tags_es", "held_out")
SHARES = {"label_en": 6.0, "label_es": 4.0, "tags_en": 4.0, "tags_es": 2.5}  # how often each is said
GROUP_SHARE = 0.3
PHRASE_TOKENS = 14
BEFORE = {  # what may stand before a name, and how often it does
    "": 6, "a": 3, "an": 2, "the": 2, "a drawing of a": 1, "a picture of a": 1, "an emoji of": 1, "a photo of a": 1,
    "un": 2, "una": 2, "el": 1, "la": 1, "un dibujo de": 1, "dibujo de una": 1, "imagen de": 1, "un emoji de": 1,
}  # fmt: skip
COLORS = {  # English: Spanish, RGB
    "red": ("rojo", (225, 35, 45)), "orange": ("naranja", (250, 140, 20)), "yellow": ("amarillo", (252, 210, 45)),
    "green": ("verde", (60, 170, 60)), "turquoise": ("turquesa", (50, 200, 195)), "blue": ("azul", (45, 105, 225)),
    "purple": ("morado", (135, 65, 190)), "pink": ("rosa", (248, 120, 180)), "brown": ("marron", (135, 80, 45)),
    "gray": ("gris", (135, 138, 142)), "black": ("negro", (35, 35, 40)),
}  # fmt: skip


class Drawings(NamedTuple):
    """Pictures and what is known of each."""

    images: Tensor  # [N, 4, R, R] uint8
    rows: list[dict[str, str]]

    def where(self, held_out: bool, without: Iterable[str] = (), only: Iterable[str] = ()) -> Tensor:
        """Numbers of drawings on one side of the split, of all styles but some, or of some."""
        without, only = set(without), set(only)
        return torch.tensor([
            i for i, row in enumerate(self.rows)
            if (row["held_out"] == "1") == held_out and row["set"] not in without and (not only or row["set"] in only)
        ], dtype=torch.int64)  # fmt: skip


def read_drawings(table: Path, size: int) -> Drawings:
    """All drawings of a table, `size` pixels a side; files lie below its folder.

    Raises:
        FileNotFoundError: no such table.
        ValueError: no table of captions, or none of its files is there.
    """
    if not table.is_file():
        raise FileNotFoundError(f"{table} does not exist; give the table of captions")
    with table.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
        if missing:
            raise ValueError(
                f"{table.name} has no column {', '.join(missing)}; its first line names {', '.join(COLUMNS)}"
            )
        rows = [row for row in reader if (table.parent / row["file"]).is_file()]
    if not rows:
        raise ValueError(f"none of the files that {table.name} names lies below {table.parent}")
    images = np.empty((len(rows), 4, size, size), np.uint8)
    for image, row in zip(images, rows, strict=True):
        with Image.open(table.parent / row["file"]) as picture:
            image[:] = np.asarray(picture.convert("RGBA").resize((size, size), Image.Resampling.BOX)).transpose(2, 0, 1)
    return Drawings(torch.from_numpy(images), rows)


def learn_vocabulary(drawings: Drawings, merges: int, context: int) -> Tokenizer:
    """Byte pairs of all words of the drawings that may be learned."""
    texts = (row[key] for row in drawings.rows if row["held_out"] != "1" for key in SHARES)
    pairs = learn_merges((text.replace("|", " ") for text in texts), merges, plain_letters=True)
    return Tokenizer(pairs, context, plain_letters=True)


class Captions(NamedTuple):
    """Captions of a batch, and what they say."""

    tokens: Tensor  # [B, T]
    phrase: Tensor  # [B]
    color: Tensor  # [B], 0 says none, else 1 + its number


class Words:
    """All phrases, and which are true of which concept. Captions are put together from their tokens."""

    def __init__(self, drawings: Drawings, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        numbers = {name: i for i, name in enumerate(sorted({row["concept"] for row in drawings.rows}))}
        self.concept = torch.tensor([numbers[row["concept"]] for row in drawings.rows])
        said: list[dict[str, float]] = [{} for _ in numbers]  # phrase -> how often
        for row in drawings.rows:
            _add_phrases(said[numbers[row["concept"]]], row)
        self.phrases = list(dict.fromkeys(part for spoken in said for part in spoken))
        self.chance, self.truth = _tables(said, self.phrases)  # [concepts, phrases]
        self.phrase_tokens = self.bank(self.phrases, PHRASE_TOKENS)
        self.before_tokens = self.bank(list(BEFORE), 5)
        self.before_chance = torch.tensor(list(BEFORE.values()), dtype=torch.float32)
        self.color_tokens = [self.bank(["", *names], 3) for names in (COLORS, [es for es, _ in COLORS.values()])]

    def bank(self, texts: list[str], length: int) -> Tensor:
        """Tokens [n, length] of each text, -1 where there are none."""
        table = torch.full((len(texts), length), -1)
        for row, text in zip(table, texts, strict=True):
            ids = self.tokenizer.encode(text)[:length]
            row[: len(ids)] = torch.tensor(ids, dtype=torch.int64)
        return table

    def draw(self, drawing: Tensor, color: Tensor, generator: torch.Generator) -> Captions:
        """Captions at random of drawings [B], whose color [B] (-1: none to be told) is mostly said."""
        count = len(drawing)
        phrase = torch.multinomial(self.chance[self.concept[drawing]].float(), 1, generator=generator)[:, 0]
        said = torch.where((color >= 0) & (torch.rand(count, generator=generator) < 0.8), color + 1, 0)
        spanish = torch.rand(count, generator=generator) < 0.4
        before = torch.multinomial(self.before_chance, count, replacement=True, generator=generator)
        english_color = self.color_tokens[0][torch.where(spanish, 0, said)]
        spanish_color = self.color_tokens[1][torch.where(spanish, said, 0)]  # adjectives follow
        body = torch.cat([self.before_tokens[before], english_color, self.phrase_tokens[phrase], spanish_color], 1)
        return Captions(self._close(body), phrase, said)

    def true_pairs(self, drawing: Tensor, color: Tensor, captions: Captions) -> Tensor:
        """[B, B] bool: caption j may be said of drawing i."""
        true = self.truth[self.concept[drawing]][:, captions.phrase]
        true &= (captions.color == 0)[None] | (captions.color[None] == color[:, None] + 1)
        return true | torch.eye(len(drawing), dtype=torch.bool)

    def _close(self, body: Tensor) -> Tensor:
        """Leave out the gaps, and add start and end: [B, n] with -1 -> [B, context]."""
        gaps_last = (body < 0).to(torch.int8).sort(dim=1, stable=True).indices
        body = body.gather(1, gaps_last)[:, : self.tokenizer.context - 2]
        tokens = torch.zeros(len(body), self.tokenizer.context, dtype=torch.int64)
        tokens[:, 0] = self.tokenizer.start
        tokens[:, 1 : 1 + body.shape[1]] = body.clamp(min=0)
        tokens[torch.arange(len(body)), 1 + (body >= 0).sum(1)] = self.tokenizer.end
        return tokens


def plain_phrase(text: str) -> str:
    """A name or keyword as it is learned."""
    return clean_text(text.translate({ord(sign): None for sign in '"“”'}), plain_letters=True)


def group_name(group: str) -> str:
    """A group as words: "food-drink" is "food and drink"."""
    return group.replace("-", " and ")


def _add_phrases(spoken: dict[str, float], row: dict[str, str]) -> None:
    for key, share in SHARES.items():
        parts = [part for part in map(plain_phrase, row[key].split("|") if "tags" in key else [row[key]]) if part]
        for part in parts:
            spoken[part] = max(spoken.get(part, 0.0), share / len(parts))
    if row["group"]:
        spoken.setdefault(group_name(row["group"]), GROUP_SHARE)


def _tables(said: list[dict[str, float]], phrases: list[str]) -> tuple[Tensor, Tensor]:
    """How often each phrase is said of each concept, and whether it is true: a phrase is, too, where all its words are
    said of the concept."""
    numbers = {part: j for j, part in enumerate(phrases)}
    chance = torch.zeros(len(said), len(phrases), dtype=torch.float16)
    concepts_of: dict[str, set[int]] = defaultdict(set)  # by word
    for i, spoken in enumerate(said):
        for part, share in spoken.items():
            chance[i, numbers[part]] = share
            for word in split_words(part):
                concepts_of[word].add(i)
    truth = chance > 0
    for part, j in numbers.items():
        truth[list(set.intersection(*(concepts_of[word] for word in split_words(part)))), j] = True
    return chance, truth
