"""Drawings inside the packages of icons: SVG in Iconify's JSON, or a bitmap a code point."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .names import TONES, Names, Words, key_of, without_tone
from .packages import member, members

TONE_NAMES = ("light", "medium-light", "medium", "medium-dark", "dark")


@dataclass(frozen=True)
class Drawing:
    """One drawing to be made."""

    key: str  # file name without its suffix
    words: Words
    source: bytes = field(repr=False)  # SVG, or an encoded bitmap
    trim: bool = False  # cut to what is painted


def iconify_drawings(package: Path, style: str, names: Names) -> Iterator[Drawing]:
    """Icons of an Iconify package, by code point where it tells them, else by name; skin tones as `one_tone`."""
    icons, keys = json.loads(member(package, "package/icons.json")), json.loads(member(package, "package/chars.json"))
    if keys:
        by_key = {key_of(key): name for key, name in sorted(keys.items(), reverse=True)}
        for key, name in sorted(by_key.items()):
            if one_tone(style, key, [point for point in key.split("-") if point in TONES], TONES):
                yield Drawing(key, names.of_key(key), svg_of(icons, name))
        return
    for name in sorted(icons["icons"]):
        tones = re.findall(r"(?<=-)(medium-light|medium-dark|light|medium|dark)(?=-|$)", name)
        if not names.knows_tone(name) or one_tone(style, without_tone(name), tones, TONE_NAMES):
            yield Drawing(name, names.of_name(name), svg_of(icons, name))


def bitmap_drawings(package: Path, style: str, names: Names) -> Iterator[Drawing]:
    """Pictures named by code points; skin tones as `one_tone`."""
    for path, contents in members(package, ".webp"):
        key = key_of(Path(path).stem)
        if one_tone(style, key, [point for point in key.split("-") if point in TONES], TONES):
            yield Drawing(key, names.of_key(key), contents)


def one_tone(style: str, name: str, tones: list[str], choice: tuple[str, ...]) -> bool:
    """True for drawings without a skin tone, and for one of the five, which follows from a hash of style and name."""
    if len(set(tones)) != 1:
        return not tones
    bare = "-".join(part for part in name.split("-") if part not in choice)
    return tones[0] == choice[hashlib.sha256(f"{style}/{bare}".encode()).digest()[0] % len(choice)]


def svg_of(icons: dict, name: str) -> bytes:
    """An icon as an SVG file; an alias is the icon it stands for."""
    alias = icons.get("aliases", {}).get(name, {})
    icon = icons["icons"].get(name) or icons["icons"][alias["parent"]]
    left, top = (icon.get(side, 0) for side in ("left", "top"))
    width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
    ).encode()
