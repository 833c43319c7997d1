"""Views of pictures in tar files by number, for what reads each tar file from beginning to end: encoding."""

from __future__ import annotations

import itertools
import logging
from bisect import bisect_right

import numpy as np
from PIL import Image

from ..config.condition import SourceConfig
from ..config.runs import DataConfig
from ..data.conditions.sources import Pictures, Source, open_source
from ..data.views import Views
from .manifest import find_shards
from .reading import picture_of, records

SEEN = ("none", "edges", "low-resolution")  # conditions that a view itself holds

logger = logging.getLogger("tessera")


class ShardViews(Views):
    """Views of the pictures of shards, shard by shard; see `Views`. One shard at a time is kept in memory, as the files
    that it holds, so ask for pictures part by part.

    Args:
        shards: their addresses.
        counts: how many pictures are in each.
        made_from: changes with what is in them.
        most: only so many of the first pictures; 0 for all.
    Raises:
        ValueError: nobody has counted the pictures.
    """

    def __init__(
        self,
        shards: tuple[str, ...],
        counts: tuple[int, ...],
        config: DataConfig,
        seed: int,
        augment: bool,
        source: Source | None = None,
        made_from: str = "",
        most: int = 0,
    ):
        super().__init__(config, seed, augment, source)
        if not counts:
            raise ValueError(
                f"data.folder {config.folder} has no manifest that says how many pictures there are; write one with "
                "`data shard`, and name its folder"
            )
        self.shards, self.counts, self.made_from = shards, counts, made_from
        self.starts = list(itertools.accumulate(counts, initial=0))
        self.length = min(most or self.starts[-1], self.starts[-1])
        self.opened: int | None = None
        self.records: list[dict] = []

    def __len__(self) -> int:
        return self.length

    def shard_of(self, index: int) -> int:
        """The shard that picture `index` is in."""
        return bisect_right(self.starts, index) - 1

    def name(self, index: int) -> str:
        """Its shard and its number there."""
        shard = self.shard_of(index)
        return f"{self.shards[shard]} {index - self.starts[shard]}"

    def load(self, index: int) -> tuple[str, Image.Image]:
        """Picture `index`, or the next readable one of its shard."""
        shard = self.shard_of(index)
        if self.opened != shard:
            self.records, self.opened = list(records(self.shards[shard])), shard
        for offset in range(len(self.records)):
            number = (index - self.starts[shard] + offset) % len(self.records)
            try:
                return self.name(self.starts[shard] + number), picture_of(self.records[number])
            except ValueError as error:
                logger.warning("skipped %s", error)
        raise ValueError(f"{self.shards[shard]} has no picture that can be read")

    def other(self, index: int, rng: np.random.Generator) -> int:
        """One of the same shard."""
        shard = self.shard_of(index)
        return int(rng.integers(self.starts[shard], self.starts[shard + 1]))

    def parts(self) -> list[range]:
        """A shard each."""
        ends = (min(end, self.length) for end in self.starts[1:])
        return [range(start, end) for start, end in zip(self.starts, ends, strict=False) if start < end]

    def unguided(self, config: DataConfig) -> ShardViews:
        """See `Views`."""
        return ShardViews(self.shards, self.counts, config, self.seed, True, None, self.made_from)

    def fingerprint(self, output: str) -> str:
        """As the manifest has it."""
        return self.made_from


def views_of_shards(data: DataConfig, condition: SourceConfig, seed: int) -> tuple[ShardViews, ShardViews]:
    """Augmented views of the pictures of `data.folder` to learn from, plain ones of those held out, with what guides
    them; ValueError for what is told of single files."""
    if condition.kind not in SEEN:
        raise ValueError(
            f"condition.kind is {condition.kind}, which is told of single files; give a folder of these as "
            f"data.folder, or choose {', '.join(SEEN)}"
        )
    shards, source = find_shards(data.folder, data.validation), open_source(condition, Pictures(data))
    return (
        ShardViews(shards.learned, shards.counts, data, seed, True, source, shards.fingerprint),
        ShardViews(
            shards.held_out, shards.held_out_counts, data, seed, False, source, shards.fingerprint, data.max_validation
        ),
    )
