"""A folder of pictures as tar files, for storage that is slow to open files, and for many machines (WebDataset)."""

import hashlib
import io
import itertools
import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from ...core.images.io import unpack_image
from ...core.storage.atomic import atomic_write
from ..config.runs import DataConfig
from ..data.folder import SUFFIXES, files_below, find_images, identity, split_images
from ..data.index import PictureIndex, stamp
from ..data.places import path_below
from .manifest import NAME, Shard, read_manifest, read_shard, write_manifest

PARTS = ".parts"  # folder of the notes of shards that are done, until the manifest is written

logger = logging.getLogger("tessera")


@dataclass(frozen=True)
class Files:
    """Those of one picture: its own, its caption's and its condition maps'."""

    picture: Path
    name: str  # below the folder
    identity: str
    maps: tuple[tuple[str, Path], ...]

    @property
    def caption(self) -> Path:
        """Where its caption would be."""
        return self.picture.with_suffix(".txt")

    def facts(self) -> str:
        """What changes when one of them does."""
        paths = [self.picture, self.caption, *(path for _, path in self.maps)]
        return f"{self.name} {self.identity} {[stamp(path) if path.is_file() else None for path in paths]}"


@dataclass(frozen=True)
class Job:
    """One shard to write."""

    path: Path
    split: str
    files: list[Files]

    def made_from(self) -> str:
        """Hash of all that decides what is in it."""
        facts = "\n".join(some.facts() for some in self.files)
        return hashlib.sha256(facts.encode(errors="surrogateescape")).hexdigest()


def write_shards(
    config: DataConfig,
    output: Path,
    maps: dict[str, Path],
    shard_bytes: int = 256 * 2**20,
    shard_items: int = 10_000,
    workers: int = 1,
) -> list[Shard]:
    """Write the pictures of a folder as shards and a manifest. Shards that are there already, of the same files, are
    kept: what was interrupted goes on, and a folder that grew is brought up to date.

    Args:
        config: the folder, and how it is split.
        maps: folders of condition maps by name; the map of a/b.jpg is a/b of any ending there.
        shard_bytes, shard_items: a shard is closed when it has this many.
        workers: threads; reading, decoding and hashing let each other go on.
    Raises:
        FileNotFoundError: no such folder.
        ValueError: no usable pictures.
    """
    index = PictureIndex(output)
    jobs = plan(config, output, find_images(config, index), maps, shard_bytes, shard_items)
    index.save()
    (output / PARTS).mkdir(parents=True, exist_ok=True)
    done = shards_done(output)
    pool = ThreadPoolExecutor(workers)
    try:
        shards = list(
            tqdm(
                pool.map(write_or_keep, jobs, map(done.get, names_of(jobs))),
                total=len(jobs),
                unit="shard",
                disable=None,
            )
        )
    finally:
        pool.shutdown(cancel_futures=True)
    write_manifest(output, shards)
    tidy(output, set(names_of(jobs)))
    return shards


def names_of(jobs: list[Job]) -> list[str]:
    """File names of shards."""
    return [job.path.name for job in jobs]


def plan(
    config: DataConfig, output: Path, pictures: list[Path], maps: dict[str, Path], shard_bytes: int, shard_items: int
) -> list[Job]:
    """Which pictures come into which shard: in an order that is random but always the same, so that a few shards are
    like all."""
    found = {name: maps_below(folder) for name, folder in maps.items()}
    jobs = []
    for split, side in zip(("train", "held-out"), split_images(pictures, config), strict=True):
        files = [files_of(path, config, found) for path in side]
        files = sorted(
            (some for some in files if some),
            key=lambda some: hashlib.sha256(some.name.encode(errors="surrogateescape")).digest(),
        )
        for number, part in enumerate(parts_of(files, shard_bytes, shard_items)):
            jobs.append(Job(output / f"{split}-{number:06d}.tar", split, part))
    if not any(job.split == "train" for job in jobs):
        raise ValueError(f"none of {len(pictures)} pictures of {config.folder} has a map in every folder of maps")
    return jobs


def maps_below(folder: Path) -> dict[str, Path]:
    """Map files by their path below the folder without the ending."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}, a folder of condition maps, does not exist")
    files = (path for path in files_below(folder) if path.suffix.lower() in SUFFIXES)
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}


def files_of(picture: Path, config: DataConfig, maps: dict[str, dict[str, Path]]) -> Files | None:
    """All files of a picture; None, and a word of it, where a map is missing."""
    below = path_below(picture, config)
    key = below.with_suffix("").as_posix()
    if missing := [name for name, found in maps.items() if key not in found]:
        logger.warning("left out %s: it has no map of %s", picture, " and ".join(missing))
        return None
    own = tuple((name, found[key]) for name, found in maps.items())
    return Files(picture, below.as_posix(), identity(picture, config), own)


def parts_of(files: list[Files], shard_bytes: int, shard_items: int) -> Iterator[list[Files]]:
    """Consecutive files, as many as make a shard of the wanted size."""
    part, size = [], 0
    for some in files:
        part.append(some)
        size += sum(path.stat().st_size for path in (some.picture, *(path for _, path in some.maps)))
        if size >= shard_bytes or len(part) >= shard_items:
            yield part
            part, size = [], 0
    if part:
        yield part


def shards_done(output: Path) -> dict[str, Shard]:
    """Shards that an earlier start finished, by name."""
    done = []
    if (output / NAME).is_file():
        done += read_manifest((output / NAME).read_bytes(), str(output / NAME))
    for note in sorted((output / PARTS).glob("*.json")):
        done.append(read_shard(json.loads(note.read_bytes())))
    return {shard.name: shard for shard in done}


def write_or_keep(job: Job, done: Shard | None) -> Shard:
    """The shard of a job, written if it isn't there."""
    return kept_or_written(job.path, job.split, job.made_from(), done, lambda partial: write_tar(partial, job))


def kept_or_written(path: Path, split: str, made_from: str, done: Shard | None, write: Callable[[Path], int]) -> Shard:
    """The shard at `path` if what is known of it says that it is the one wanted, otherwise the one that `write` writes
    to a path, returning how many items are in it. What is known is noted until there is a manifest."""
    if done and done.made_from == made_from and path.is_file() and path.stat().st_size == done.bytes:
        return done
    note = path.parent / PARTS / f"{path.name}.json"
    note.unlink(missing_ok=True)
    with atomic_write(path) as partial:
        items = write(partial)
        digest, size = digest_of(partial), partial.stat().st_size
    shard = Shard(name=path.name, split=split, items=items, bytes=size, sha256=digest, made_from=made_from)
    with atomic_write(note) as partial:
        partial.write_text(json.dumps(asdict(shard)), encoding="utf-8")
    return shard


def digest_of(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(2**20), b""):
            digest.update(piece)
    return digest.hexdigest()


def write_tar(path: Path, job: Job) -> int:
    """Write the pictures of a job as a tar file; how many could be read."""
    from webdataset import TarWriter

    items = 0
    with path.open("wb") as file, TarWriter(file, encoder=False, mtime=0) as tar:
        for some in job.files:
            if (record := record_of(some)) is not None:
                tar.write({"__key__": f"{job.path.stem}-{items:06d}", **record})
                items += 1
    return items


def record_of(files: Files) -> dict[str, bytes] | None:
    """What a shard holds of a picture, by ending; None, and a word of it, if one of its files is broken."""
    try:
        record = {suffix_of(files.picture): files.picture.read_bytes()}
        record |= {f"{name}.{suffix_of(path)}": path.read_bytes() for name, path in files.maps}
        for ending, content in record.items():
            unpack_image(io.BytesIO(content), f"{files.name} ({ending})")
        if files.caption.is_file():
            record["txt"] = files.caption.read_bytes()
    except (OSError, ValueError) as error:
        logger.warning("left out %s", error)
        return None
    facts = {"name": files.name, "identity": files.identity}
    return record | {"json": json.dumps(facts).encode()}


def suffix_of(path: Path) -> str:
    """The ending of a file, without the dot."""
    return path.suffix.lower()[1:]


def tidy(output: Path, kept: set[str]) -> None:
    """Remove the notes, what killed writers left, and shards of an earlier start that no longer belong."""
    tars = itertools.chain.from_iterable(output.glob(f"{name}-??????.tar") for name in ("train", "held-out", "made"))
    for path in [*tars, *output.glob(".*.partial.tar"), *(output / PARTS).glob("*")]:
        if path.name not in kept:
            path.unlink()
    (output / PARTS).rmdir()
