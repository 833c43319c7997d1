"""Make the drawings: fetch the packages, draw what is in them, and write the table of their names."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, fields
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image
from tqdm import tqdm

from ...core.storage.atomic import atomic_write
from ...downloads.download import download
from ..data.drawings import TABLE
from .clipart import clipart_drawings
from .icons import Drawing, bitmap_drawings, iconify_drawings
from .names import Names, Words, is_held_out
from .packages import Package

COLUMNS = ("file", "set", *(one.name for one in fields(Words)), "held_out")
QUALITY = 90  # of lossy WebP
DETAIL = 4  # pixels that clip art is drawn at, times the size, before it is cut to what is painted
ALIKE = 0.02  # mean difference (0 to 1) of two small drawings of clip art below which the second is left out
SMALL = 16  # pixels a side of these

logger = logging.getLogger("tessera")


def build_drawings(
    packages: dict[str, Package], output: Path, styles: Iterable[str], size: int, workers: int
) -> dict[str, int]:
    """Write `<style>/<key>.webp` with transparency, and the table; what is there is kept. Drawings of each style.

    Args:
        packages: as `read_packages`; their files are fetched into `.packages` below the output folder.
        styles: names of packages; all where there is none.
        size: pixels a side.
        workers: threads.
    Raises:
        ValueError: a style that is not in the list; as `download`.
    """
    known = [name for name, package in packages.items() if package.layout != "names"]
    styles = list(styles) or known
    if unknown := [style for style in styles if style not in known]:
        raise ValueError(f"there is no style {unknown[0]!r}; choose from {', '.join(known)}")
    names = Names(fetched(packages["names"], output))
    rows = []
    for style in styles:
        package = packages[style]
        drawings = list(drawings_of(package, fetched(package, output), names))
        made = draw_all(drawings, output / style, size, workers)
        chosen = unlike(made) if package.layout == "clipart" else made
        rows += [row_of(style, drawing) for drawing, _ in chosen]
        logger.info("%s: %d drawings (%s, %s)", style, len(chosen), package.license, package.credit)
    write_table(output / TABLE, rows)
    return {style: sum(row[1] == style for row in rows) for style in styles}


def fetched(package: Package, output: Path) -> Path:
    """The package's file below the output folder, fetched if it is not there."""
    path = output / ".packages" / package.file.name
    if not path.is_file():
        with tqdm(unit="B", unit_scale=True, desc=package.file.name, disable=None) as bar:
            download(package.file, path, lambda done, total: bar.update(done - bar.n))
    return path


def drawings_of(package: Package, path: Path, names: Names) -> Iterator[Drawing]:
    """All drawings of a package."""
    if package.layout == "iconify":
        return iconify_drawings(path, package.name, names)
    if package.layout == "bitmaps":
        return bitmap_drawings(path, package.name, names)
    return clipart_drawings(path)


def draw_all(drawings: list[Drawing], folder: Path, size: int, workers: int) -> list[tuple[Drawing, Path]]:
    """Draw what is not there yet; those that could be drawn, with their files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{drawing.key}.webp" for drawing in drawings]
    with ThreadPoolExecutor(workers) as pool:
        done = pool.map(lambda pair: draw(*pair, size), zip(drawings, paths, strict=True))
        made = list(tqdm(done, total=len(paths), desc=folder.name, disable=None))
    if missing := made.count(False):
        logger.warning("%s: %d drawings could not be drawn and are left out", folder.name, missing)
    return [pair for pair, there in zip(zip(drawings, paths, strict=True), made, strict=True) if there]


def draw(drawing: Drawing, path: Path, size: int) -> bool:
    """Write one drawing, centered on a transparent square; False if it can't be drawn or shows nothing."""
    if path.is_file():
        return True
    try:
        image = rendered(drawing, size)
    except (ValueError, OSError):  # what no renderer makes sense of
        return False
    if image.getextrema()[3][1] == 0:
        return False
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (size, size))
    square.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    with atomic_write(path) as partial:
        square.save(partial, "WEBP", quality=QUALITY)
    return True


def rendered(drawing: Drawing, size: int) -> Image.Image:
    """A drawing as RGBA, at least `size` pixels wide or high where it is SVG."""
    contents = drawing.source
    if not contents.startswith(b"RIFF"):
        contents = resvg_py.svg_to_bytes(
            svg_string=contents.decode("utf-8", "replace"),
            width=size * (DETAIL if drawing.trim else 1),
            skip_system_fonts=True,
        )
    image = Image.open(io.BytesIO(contents)).convert("RGBA")
    return image.crop(image.getbbox()) if drawing.trim and image.getbbox() else image


def unlike(made: list[tuple[Drawing, Path]]) -> list[tuple[Drawing, Path]]:
    """Those that look like none before them; the files of the others are removed."""
    chosen, seen = [], np.empty((0, SMALL * SMALL * 3), np.float32)
    for drawing, path in made:
        with Image.open(path) as image:
            ground = Image.new("RGBA", image.size, "white")
            ground.alpha_composite(image.convert("RGBA"))
            small = np.asarray(ground.convert("RGB").resize((SMALL, SMALL)), np.float32).reshape(1, -1) / 255
        if len(seen) and np.abs(seen - small).mean(1).min() < ALIKE:
            path.unlink()
            continue
        seen = np.concatenate([seen, small])
        chosen.append((drawing, path))
    return chosen


def row_of(style: str, drawing: Drawing) -> list[str]:
    """A row of the table."""
    texts = [" ".join(text.split()) for text in astuple(drawing.words)]
    return [f"{style}/{drawing.key}.webp", style, *texts, str(int(is_held_out(drawing.words.concept)))]


def write_table(path: Path, rows: list[list[str]]) -> None:
    """Names and keywords of all drawings, separated by tabs."""
    with atomic_write(path) as partial:
        partial.write_text("".join("\t".join(row) + "\n" for row in [COLUMNS, *rows]), encoding="utf-8")
