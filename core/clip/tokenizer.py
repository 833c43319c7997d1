"""Byte-pair tokens of CLIP's text tower, and how to learn a vocabulary of our own.

A text becomes words, a word its UTF-8 bytes, and the bytes are joined pair by pair in the order in which the
merges were learned (Sennrich et al. 2016, arXiv:1508.07909). So no word is unknown: at worst it is spelled.

    ids: 256 bytes, 256 bytes that end a word, one for each merge, start, end
"""

from __future__ import annotations

import heapq
import html
import itertools
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache

import torch
from torch import Tensor

END_OF_WORD = "</w>"
CONTRACTIONS = re.compile(r"'(?:s|t|re|ve|m|ll|d)")
SPECIAL = re.compile(r"<\|startoftext\|>|<\|endoftext\|>")

Merge = tuple[str, str]


def byte_symbols() -> list[str]:
    """One printable character for each byte, in the order of CLIP's ids: printable bytes first, as themselves."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    return [characters[byte] for byte in range(256)]


SYMBOLS = byte_symbols()
ID_ORDER = sorted(SYMBOLS, key=lambda symbol: (ord(symbol) >= 256, ord(symbol)))


class Tokenizer:
    """Texts to tokens.

    Args:
        merges: pairs of symbols, the first learned first.
        context: tokens of a text, start and end included.
        plain_letters: leave out accents, so that "limón" and "limon" are one word.
    """

    def __init__(self, merges: list[Merge], context: int = 77, plain_letters: bool = False):
        self.merges, self.context, self.plain_letters = merges, context, plain_letters
        symbols = [*ID_ORDER, *(s + END_OF_WORD for s in ID_ORDER), *(a + b for a, b in merges)]
        self.ids = {symbol: i for i, symbol in enumerate(symbols)}
        self.ranks = {pair: i for i, pair in enumerate(merges)}
        self.start, self.end = len(symbols), len(symbols) + 1
        self.vocab_size = len(symbols) + 2
        self._word_ids = lru_cache(maxsize=50_000)(self._merge_word)

    def __call__(self, texts: list[str]) -> Tensor:
        """[n, context] int64: start, the text, end, then zeros. A text that is too long loses its end."""
        tokens = torch.zeros(len(texts), self.context, dtype=torch.int64)
        for row, text in zip(tokens, texts, strict=True):
            ids = [self.start, *self.encode(text)[: self.context - 2], self.end]
            row[: len(ids)] = torch.tensor(ids)
        return tokens

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without start and end."""
        return [i for word in split_words(clean_text(text, self.plain_letters)) for i in self._word_ids(word)]

    def fits(self, text: str) -> bool:
        """False where the end of a text would be cut off."""
        return len(self.encode(text)) <= self.context - 2

    def _merge_word(self, word: str) -> list[int]:
        parts = word_symbols(word)
        while len(parts) > 1:
            pairs = list(itertools.pairwise(parts))
            pair = min(pairs, key=lambda pair: self.ranks.get(pair, len(self.ranks)))
            if pair not in self.ranks:
                break
            parts = join_pair(parts, pair)
        return [self.ids[part] for part in parts]


def clean_text(text: str, plain_letters: bool = False) -> str:
    """Lower case, single spaces, no HTML entities; with `plain_letters` no accents."""
    text = " ".join(html.unescape(html.unescape(text)).split()).lower()
    if plain_letters:
        text = "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
    return text


def split_words(text: str) -> Iterator[str]:
    """CLIP's words: runs of letters, single digits, runs of other signs, English contractions."""
    at = 0
    while at < len(text):
        if match := SPECIAL.match(text, at) or CONTRACTIONS.match(text, at):
            yield match[0]
            at = match.end()
            continue
        kind, end = _kind(text[at]), at + 1
        while kind in "LS" and end < len(text) and _kind(text[end]) == kind:
            end += 1
        if kind != " ":
            yield text[at:end]
        at = end


def _kind(character: str) -> str:
    """L letter, N number, blank, or S any other sign."""
    if character.isspace():
        return " "
    category = unicodedata.category(character)[0]
    return category if category in "LN" else "S"


def word_symbols(word: str) -> list[str]:
    """A word as symbols of single bytes, the last one marked."""
    symbols = [SYMBOLS[byte] for byte in word.encode("utf-8")]
    return [*symbols[:-1], symbols[-1] + END_OF_WORD]


def join_pair(parts: list[str], pair: Merge) -> list[str]:
    """Join every occurrence of a pair of neighbors, from the left."""
    joined, i = [], 0
    while i < len(parts):
        if i + 1 < len(parts) and (parts[i], parts[i + 1]) == pair:
            joined.append(parts[i] + parts[i + 1])
            i += 2
        else:
            joined.append(parts[i])
            i += 1
    return joined


def learn_merges(texts: Iterable[str], size: int, plain_letters: bool = False) -> list[Merge]:
    """At most `size` merges: again and again the most frequent pair of neighbors, ties in alphabetical order.

    Pairs that occur once are not learned.
    """
    counts = Counter(word for text in texts for word in split_words(clean_text(text, plain_letters)))
    words = [(word_symbols(word), count) for word, count in counts.items()]
    frequency: Counter[Merge] = Counter()
    where: dict[Merge, set[int]] = defaultdict(set)
    for i, (parts, count) in enumerate(words):
        for pair in itertools.pairwise(parts):
            frequency[pair] += count
            where[pair].add(i)
    heap = [(-count, pair) for pair, count in frequency.items()]
    heapq.heapify(heap)
    merges: list[Merge] = []
    while heap and len(merges) < size:
        count, pair = heapq.heappop(heap)
        if -count != frequency[pair]:  # it has changed since; its newer entry is further down
            continue
        if frequency[pair] < 2:
            break
        merges.append(pair)
        changed = set()
        for i in where.pop(pair):
            parts, count = words[i]
            joined = join_pair(parts, pair)
            for old in itertools.pairwise(parts):
                frequency[old] -= count
                changed.add(old)
            for new in itertools.pairwise(joined):
                frequency[new] += count
                where[new].add(i)
                changed.add(new)
            words[i] = (joined, count)
        del frequency[pair]
        for other in changed - {pair}:
            heapq.heappush(heap, (-frequency[other], other))
    return merges
