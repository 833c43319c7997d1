"""The pictures of a run, from a folder or from shards: views to learn from, views to validate with."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config.condition import SourceConfig
from ..config.runs import DataConfig
from ..engine.distributed import rank_and_world
from ..shards.manifest import ShardSet, find_shards, is_sharded
from ..shards.reading import ShardImages, ShardStream, endless_shards
from .conditions.sources import source_of_split
from .folder import ImageViews, load_split
from .stream import endless

NOTHING = SourceConfig()


@dataclass(frozen=True)
class FolderPictures:
    """Single files."""

    learned: ImageViews
    held_out: ImageViews

    def state(self) -> dict[str, Tensor]:
        """What a run has to keep to go on with these pictures; the number of items says it."""
        return {}

    def batches(self, start: int, batch: int, state: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """Batches of this process without end, from item `start` of all."""
        views = self.learned
        return endless(views, views.seed, batch, start, views.config.workers, *rank_and_world())


@dataclass(frozen=True)
class ShardPictures:
    """Tar files."""

    shards: ShardSet
    held_out: ShardImages
    seed: int

    def state(self) -> dict[str, Tensor]:
        """A place in each shard."""
        return {"places": torch.zeros(len(self.shards.learned), dtype=torch.int64)}

    def batches(self, start: int, batch: int, state: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """Batches of this process without end, from the places in `state` on, which go along."""
        config, places = self.held_out.config, state["places"]
        stream = ShardStream(list(self.shards.learned), config, self.seed, places, *rank_and_world())
        return endless_shards(stream, places, batch, config.workers)


def open_pictures(
    config: DataConfig, seed: int, output: str, condition: SourceConfig = NOTHING
) -> FolderPictures | ShardPictures:
    """The pictures that `data.folder` stands for, with what guides them; what is known of a folder's files is kept in
    `output`. ValueError for shards that are to be guided by maps."""
    if is_sharded(config.folder):
        if condition.kind != "none":
            raise ValueError(
                f"condition.kind is {condition.kind}: maps lie beside single files; give a folder of these"
            )
        shards = find_shards(config.folder, config.validation)
        return ShardPictures(shards, ShardImages(list(shards.held_out), config), seed)
    learned, held_out = load_split(config, output)
    source = source_of_split(condition, config, learned, held_out)
    views = (ImageViews(side, config, seed, learn, source) for side, learn in ((learned, True), (held_out, False)))
    return FolderPictures(*views)
