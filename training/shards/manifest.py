"""The list of the tar files that `tessera data shard` writes: `manifest.json` beside them."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.storage.atomic import atomic_write
from .storage import matching, read_address

NAME, FORMAT = "manifest.json", "tessera-shards/1"
TYPES = {"name": str, "split": str, "items": int, "bytes": int, "sha256": str, "made_from": str}
SPLITS = ("train", "held-out")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One tar file."""

    name: str
    split: str  # "train" or "held-out"
    items: int
    bytes: int
    sha256: str
    made_from: str  # hash of the names, sizes and times of the files in it


@dataclass(frozen=True)
class ShardSet:
    """Tar files to learn from and those held out, as addresses.

    counts, held_out_counts: of the pictures in each; empty where nobody counted them.
    fingerprint: equal for equal content.
    """

    learned: tuple[str, ...]
    held_out: tuple[str, ...]
    fingerprint: str
    counts: tuple[int, ...] = ()
    held_out_counts: tuple[int, ...] = ()

    @property
    def pictures(self) -> int | None:
        """To learn from; None where nobody counted them."""
        return sum(self.counts) or None


def write_manifest(folder: Path, shards: list[Shard]) -> None:
    """Write the manifest of a folder."""
    tree = {
        "format": FORMAT,
        "pictures": sum(shard.items for shard in shards),
        "bytes": sum(shard.bytes for shard in shards),
        "shards": [dataclasses.asdict(shard) for shard in shards],
    }
    with atomic_write(folder / NAME) as partial:
        partial.write_text(json.dumps(tree, indent=1), encoding="utf-8")


def read_manifest(text: bytes | str, name: str) -> list[Shard]:
    """The shards that a manifest lists.

    Raises:
        ValueError: it is none.
    """
    try:
        tree = json.loads(text)
        if not isinstance(tree, dict) or tree.get("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        return [read_shard(row) for row in tree["shards"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{name} is no list of shards ({' '.join(str(error).split())[:200]}); write it anew"
        ) from error


def read_shard(row: Any) -> Shard:
    """One row of a manifest; ValueError where something is missing or of the wrong kind, or leads out of the folder."""
    for name, kind in TYPES.items():
        if type(row[name]) is not kind or (kind is int and row[name] < 0):
            raise ValueError(f"{name} is {row[name]!r}")
    if row["split"] not in SPLITS or "/" in row["name"] or "\\" in row["name"]:
        raise ValueError(f"shard {row['name']!r} of split {row['split']!r}")
    return Shard(**{name: row[name] for name in TYPES})


def is_sharded(folder: str) -> bool:
    """Whether `data.folder` stands for tar files, not for a folder of pictures."""
    return "://" in folder or folder.endswith(".tar") or (Path(folder) / NAME).is_file()


def find_shards(folder: str, validation: float) -> ShardSet:
    """The shards that `data.folder` stands for.

    Args:
        folder: the address of a folder with a manifest, or a pattern of tar files such as s3://photos/{000..099}.tar;
            of those the last ones are held out.
        validation: the share of tar files without a manifest that is held out.
    Raises:
        ValueError: none, or none to learn from.
        OSError: storage can't be read.
    """
    if folder.endswith(".tar"):
        found = tuple(matching(folder))
        if not found:
            raise ValueError(f"data.folder {folder} matches no tar file; check the address")
        kept_back = min(max(1, round(validation * len(found))), len(found) - 1)
        return ShardSet(found[: len(found) - kept_back], found[-max(1, kept_back) :], folder)
    text = read_address(f"{folder.rstrip('/')}/{NAME}")
    shards = [shard for shard in read_manifest(text, f"{folder}/{NAME}") if shard.items]
    learned, held_out = ([shard for shard in shards if shard.split == split] for split in SPLITS)
    if not learned:
        raise ValueError(f"data.folder {folder} lists no pictures to learn from; write its shards anew")
    sides = (learned, held_out or learned)
    addresses = (tuple(f"{folder.rstrip('/')}/{shard.name}" for shard in some) for some in sides)
    counts = (tuple(shard.items for shard in some) for some in sides)
    return ShardSet(*addresses, " ".join(shard.sha256 for shard in shards), *counts)
