"""What drawings are called: Unicode's names and keywords in English and Spanish, by code point or by a file's name.

A key is a sequence of code points in lower-case hexadecimal joined by hyphens, without the variation selector FE0F,
such as `1f44b-1f3fd`. A concept is what is drawn, across styles, skin tones and genders: `1f44b`.
"""

import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from .packages import member

TONES = ("1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff")
GENDERS = ("200d-2640", "200d-2642")
TONE_WORDS = re.compile(r"-(?:medium-light|medium-dark|light|medium|dark)(?:-skin-tone)?(?=-|$)")
HELD_OUT = 20  # of 256: concepts whose hash begins with a smaller byte are never learned from


@dataclass(frozen=True)
class Words:
    """Name and keywords in English and Spanish, and the group of things."""

    concept: str
    group: str = ""
    label_en: str = ""
    tags_en: str = ""  # joined by vertical bars
    label_es: str = ""
    tags_es: str = ""


class Names:
    """Words of code points.

    Args:
        package: file of emojibase-data.
    """

    def __init__(self, package: Path):
        groups = json.loads(member(package, "package/meta/groups.json"))["groups"]
        spanish = {key_of(entry["hexcode"]): entry for entry in read_language(package, "es")}
        self.words: dict[str, Words] = {}
        self.keys: dict[str, str] = {}  # a name as files write it -> a key
        for entry in read_language(package, "en"):
            key = key_of(entry["hexcode"])
            other = spanish.get(key, {})
            words = Words(
                concept_of(key), groups.get(str(entry.get("group")), ""), entry["label"], joined(entry),
                other.get("label", ""), joined(other),
            )  # fmt: skip
            for variant in (entry, *entry.get("skins", ())):
                self.words[key_of(variant["hexcode"])] = words
                self.keys.setdefault(slug(variant["label"]), key_of(variant["hexcode"]))
        self.closed_up = {name.replace("-", ""): key for name, key in self.keys.items()}

    def of_key(self, key: str) -> Words:
        """Words of a key; a concept without words where it is unknown."""
        return self.words.get(key) or Words(concept_of(key))

    def of_name(self, name: str) -> Words:
        """Words of a file name such as `man-farmer-1` or `flag-for-spain`; those it is made of where it is unknown."""
        plain = without_tone(name)
        bare = re.sub(r"-\d+$", "", plain)
        for spelled in (
            name,
            plain,
            bare,
            bare.replace("-face", "", 1),
            bare.replace("flag-for-", "flag-"),
            "flag-" + bare,
        ):
            if key := self.keys.get(spelled) or self.closed_up.get(spelled.replace("-", "")):
                return self.words[key]
        return Words(f"name:{bare}", label_en=plain.replace("-", " "))

    def knows_tone(self, name: str) -> bool:
        """True if a file name says a skin tone: `baby-light`, but not `traffic-light`."""
        return "skin-tone" in name or (name not in self.keys and TONE_WORDS.search(name) is not None)


def read_language(package: Path, language: str) -> list[dict]:
    """All entries of a language."""
    return json.loads(member(package, f"package/{language}/data.json"))


def joined(entry: dict) -> str:
    """Keywords of an entry."""
    return "|".join(entry.get("tags", ()))


def key_of(hexcode: str) -> str:
    """A sequence of code points as a key."""
    return "-".join(point for point in hexcode.lower().split("-") if point != "fe0f")


def concept_of(key: str) -> str:
    """What a key draws, without tones and genders."""
    points = "-".join(point for point in key.split("-") if point not in TONES)
    for mark in GENDERS:
        points = points.replace(f"-{mark}", "")
    return points


def slug(text: str) -> str:
    """A name as files write it: lower-case letters and digits, joined by hyphens."""
    ascii_text = unicodedata.normalize("NFKD", text.replace("\u2019", "").replace("&", "and")).encode("ascii", "ignore")
    return re.sub(r"[^a-z0-9]+", "-", ascii_text.decode().lower()).strip("-")


def without_tone(name: str) -> str:
    """A file name without its words of skin tone."""
    return TONE_WORDS.sub("", name)


def is_held_out(concept: str) -> bool:
    """True for the eight in a hundred concepts that no model may learn from."""
    return hashlib.sha256(concept.encode()).digest()[0] < HELD_OUT
