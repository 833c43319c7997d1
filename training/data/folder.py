"""Pictures from a folder: which there are, the train/validation split, and views of them."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from ...core.images.io import open_image
from ..config.runs import DataConfig
from ..engine.distributed import rank_and_world
from .conditions.sources import Source
from .drawings import held_out_files
from .index import PictureIndex
from .places import SUFFIXES, parts_below, path_below
from .views import Views

MIN_SIDE = 16  # pixels; smaller pictures teach nothing

logger = logging.getLogger("tessera")


def files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder, those behind links too. Every real folder is entered once, by its own path where it has
    one below `folder`: links that lead in a circle end, and no picture comes under two names."""
    entered: set[Path] = set()
    waiting = deque([folder])
    while waiting:
        for found, names, files in os.walk(waiting.popleft()):
            here, real = Path(found), Path(found).resolve()
            if real in entered:
                names.clear()
                continue
            entered.add(real)
            waiting.extend(here / name for name in sorted(names) if (here / name).is_symlink())
            yield from (here / name for name in files)


def find_images(config: DataConfig, index: PictureIndex | None = None) -> list[Path]:
    """Picture files below the folder, sorted by name. Corrupt and tiny ones are named and left out.

    Args:
        index: what is known of them already.
    Raises:
        FileNotFoundError: no such folder.
        ValueError: no usable picture in it.
    """
    return scan_folder(config, index)[0]


def scan_folder(config: DataConfig, index: PictureIndex | None = None) -> tuple[list[Path], str]:
    """`find_images`, and how many files of which other kinds there are, in words."""
    folder = Path(config.folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"data.folder {folder} is not a folder; set it to where your pictures are")
    files, others, index = [], Counter(), index or PictureIndex()
    for path in files_below(folder):
        kind = path.suffix.lower()
        if kind in SUFFIXES:
            files.append((path.parts, path))
        else:
            others[kind or path.name] += 1
    files = [path for _, path in sorted(files)]
    usable = [path for path in tqdm(files, desc="looking at pictures", disable=None, leave=False) if known(path, index)]
    words = ", ".join(f"{count} {kind}" for kind, count in others.most_common(5))
    if not usable:
        found = f"; it holds {words}" if words else ""
        raise ValueError(f"data.folder {folder} holds no usable picture; PNG, JPEG, WebP, BMP and TIFF are read{found}")
    return usable, words


def known(path: Path, index: PictureIndex) -> bool:
    """Whether a file is usable; it is opened if the index doesn't say so."""
    try:
        if index.knows(path):
            return True
        if usable := is_usable(path):
            index.add(path)
        return usable
    except OSError as error:  # gone meanwhile, or a link to nothing
        logger.warning("skipped %s: %s", path, error)
        return False


def is_usable(path: Path) -> bool:
    """Whether a file is a picture and large enough; if not, it is named."""
    try:
        with Image.open(path) as picture:
            width, height = picture.size
    except Exception as error:
        logger.warning("skipped %s: not readable as a picture (%s)", path, error)
        return False
    if min(width, height) < MIN_SIDE:
        logger.warning("skipped %s: %dx%d pixels is too small", path, width, height)
        return False
    return True


def identity(path: Path, config: DataConfig) -> str:
    """What a drawing is called: its path below the folder, without the ending and what tells variants apart."""
    name = re.sub(config.variants, "", path.stem) if config.variants else path.stem
    return "/".join((*parts_below(path, config)[:-1], name))


def split_images(paths: list[Path], config: DataConfig) -> tuple[list[Path], list[Path]]:
    """Training and validation pictures, as a table in the folder says, `drawings.held_out_files`.

    Without one a drawing's side is drawn from a hash of its identity, so variants stay together and adding pictures
    never moves old ones across. Where all would fall on one side, the drawing nearest to the border takes the other; a
    single drawing is on both.
    """
    if (kept := held_out_files(config.folder)) is not None:
        out = [path_below(path, config).as_posix() in kept for path in paths]
        return [p for p, o in zip(paths, out, strict=True) if not o], [p for p, o in zip(paths, out, strict=True) if o]
    names = [identity(path, config) for path in paths]
    place = {name: int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8], "big") / 2**64 for name in names}
    if len(place) == 1:
        logger.warning("there is only one drawing: what is called held out below is what is learned from")
        return paths, paths
    held_out = {name for name in place if place[name] < config.validation}
    if not held_out or len(held_out) == len(place):
        held_out ^= {min(place, key=lambda name: abs(place[name] - config.validation))}
    sides: tuple[list[Path], list[Path]] = ([], [])
    for path, name in zip(paths, names, strict=True):
        sides[name in held_out].append(path)
    return sides


def load_split(config: DataConfig, output: str | None = None) -> tuple[list[Path], list[Path]]:
    """The pictures of the folder to learn from and those held out, at most `max_validation`; says how many, and what
    was passed over. What is known of the files is kept in the folder `output`, by the first of several processes."""
    index = PictureIndex(output)
    pictures, others = scan_folder(config, index)
    if rank_and_world()[0] == 0:
        index.save()
    learned, held_out = split_images(pictures, config)
    held_out = evenly_spaced(held_out, config.max_validation)
    logger.info("%d pictures to learn from, %d held out", len(learned), len(held_out))
    if others:
        logger.info("passed over files of other kinds: %s", others)
    return learned, held_out


def evenly_spaced(items: list, number: int) -> list:
    """At most `number` of the items, from all over the list."""
    number = min(len(items), number)
    return [items[i * len(items) // number] for i in range(number)]


class ImageViews(Views):
    """Views of picture files, `paths`; see `Views`."""

    def __init__(self, paths: list[Path], config: DataConfig, seed: int, augment: bool, source: Source | None = None):
        super().__init__(config, seed, augment, source)
        self.paths = paths
        self.skipped: set[Path] = set()

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """Its path below the folder."""
        return path_below(self.paths[index], self.config).as_posix()

    def load(self, index: int) -> tuple[str, Image.Image]:
        """Picture `index`, or the next readable one; those that are not, or no longer there, are named once."""
        for offset in range(len(self.paths)):
            number = (index + offset) % len(self.paths)
            try:
                return self.name(number), open_image(self.paths[number])
            except (ValueError, OSError) as error:
                if self.paths[number] not in self.skipped:
                    logger.warning("skipped %s", error)
                self.skipped.add(self.paths[number])
        raise ValueError(f"none of {len(self.paths)} pictures can be read")

    def unguided(self, config: DataConfig) -> ImageViews:
        """See `Views`."""
        return ImageViews(self.paths, config, self.seed, True)

    def fingerprint(self, output: str) -> str:
        """See `Views`."""
        digest, index = hashlib.sha256(), PictureIndex(output)
        numbers = range(len(self))
        for i in tqdm(numbers, desc="comparing with the cache", unit="picture", disable=None, leave=False):
            line = f"{self.name(i)} {index.digest(self.paths[i])}\n"
            digest.update(line.encode(errors="surrogateescape"))
        if rank_and_world()[0] == 0:
            index.save()
        return digest.hexdigest()
