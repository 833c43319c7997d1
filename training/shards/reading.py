"""Pictures streamed from tar files, in an order that any number of processes can resume."""

import hashlib
import io
import itertools
import logging
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from ...core.images.io import unpack_image
from ..config.runs import DataConfig
from ..data.folder import MIN_SIDE
from ..data.places import SUFFIXES
from ..data.stream import ignore_interrupts
from ..data.views import make_views
from ..engine.distributed import all_gather
from .storage import open_address, wait_or_raise

EPOCH = 2**40  # a place is epoch * EPOCH + the next picture of the shard

logger = logging.getLogger("tessera")


def records(address: str, start: int = 0) -> Iterator[dict]:
    """The records of a tar file from number `start` on: bytes by ending. Where storage fails on the way, it is opened
    again, and the rest of a broken tar file is named and left."""
    import tarfile

    from webdataset.tariterators import group_by_keys, tar_file_expander

    at, failures = start, 0
    while True:
        try:
            with open_address(address) as file:
                files = tar_file_expander([{"url": address, "stream": file}], eof_value={})
                for record in itertools.islice(group_by_keys(files, handler=name_and_go_on), at, None):
                    yield record
                    at, failures = at + 1, 0
            return
        except GeneratorExit:
            raise
        except tarfile.TarError as error:
            logger.warning("%s is broken after %d records (%s); the rest is left out", address, at, error.args[0])
            return
        except Exception as error:
            failures += 1
            wait_or_raise(error, failures, address)


def name_and_go_on(error: Exception) -> bool:
    """Name a record that can't be put together."""
    logger.warning("skipped a record: %s", error.args[0] if error.args else error)
    return True


def picture_of(record: dict) -> Image.Image:
    """The picture of a record; ValueError if it has none, or a broken or tiny one."""
    name = f"{record['__key__']} of {record['__url__']}"
    for suffix in SUFFIXES:
        if content := record.get(suffix[1:]):
            picture = unpack_image(io.BytesIO(content), name)
            if min(picture.size) < MIN_SIDE:
                raise ValueError(f"{name} is too small")
            return picture
    raise ValueError(f"{name} holds no picture")


class ShardStream(IterableDataset):
    """Views of the pictures of all shards, without end, for one of several readers: processes, and their workers.

    Each shard is read by one reader; of its own ones it goes on with the one that is furthest behind, in a random order
    that is another one in every epoch. Within a shard, pictures are shuffled in blocks of `config.buffer`. So the order
    within a shard depends on the seed and the epoch alone, and a place in each shard says all of what is seen.

    Args:
        shards: their addresses.
        places: of each shard `epoch * EPOCH + pictures seen of it`.
        rank, world: of the processes.
    """

    def __init__(self, shards: list[str], config: DataConfig, seed: int, places: Tensor, rank: int, world: int):
        if len(shards) < world:
            raise ValueError(f"data.folder has {len(shards)} shards for {world} processes; write smaller ones")
        self.shards, self.config, self.seed = shards, config, seed
        self.places, self.rank, self.world = places.tolist(), rank, world

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Items of `make_views`, and `place`: [2], the shard and its place after this picture."""
        worker = get_worker_info()
        worker_number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        reader, readers = self.rank * workers + worker_number, self.world * workers
        own = range(reader, len(self.shards), readers)
        empty = 0
        while own and empty < len(own):
            shard = min(own, key=self.urgency)
            seen = 0
            for item in self.rest_of(shard):
                yield item
                seen += 1
            empty = 0 if seen or self.places[shard] % EPOCH else empty + 1
            self.places[shard] = (self.places[shard] // EPOCH + 1) * EPOCH
        if own:
            raise ValueError(f"none of {len(own)} shards has a picture that can be read: {self.shards[own[0]]} ...")

    def urgency(self, shard: int) -> tuple[int, bool, bytes]:
        """Orders shards: epoch, then those begun, then by chance."""
        epoch, seen = divmod(self.places[shard], EPOCH)
        return epoch, not seen, hashlib.sha256(f"{self.seed} {epoch} {shard}".encode()).digest()

    def rest_of(self, shard: int) -> Iterator[dict[str, Tensor]]:
        """The pictures of this epoch that are not yet seen of a shard; broken ones are named and skipped."""
        epoch, seen = divmod(self.places[shard], EPOCH)
        size = self.config.buffer
        source = records(self.shards[shard], first := seen // size * size)
        while block := list(itertools.islice(source, size)):
            order = np.random.default_rng([self.seed, epoch, shard, first]).permutation(len(block))
            for number in range(max(0, seen - first), len(block)):
                rng = np.random.default_rng([self.seed, epoch, shard, first + number])
                try:
                    views, _ = make_views(
                        lambda block=block, index=order[number]: picture_of(block[index]),
                        lambda block=block, rng=rng: picture_of(block[rng.integers(len(block))]),
                        self.config, rng, True,
                    )  # fmt: skip
                except ValueError as error:
                    logger.warning("skipped %s", error)
                    continue
                yield views | {"place": torch.tensor([shard, epoch * EPOCH + first + number + 1])}
            first += len(block)


def endless_shards(stream: ShardStream, places: Tensor, batch: int, workers: int) -> Iterator[dict[str, Tensor]]:
    """Batches without end; `places` [shards] is brought up to date, alike on all processes, as they are taken."""
    loader = DataLoader(
        stream, batch, num_workers=workers, generator=torch.Generator(), worker_init_fn=ignore_interrupts
    )
    for views in loader:
        shard, place = all_gather(views.pop("place")).to(places.device).unbind(1)
        places.scatter_reduce_(0, shard, place, "amax")
        yield views


class ShardImages(Dataset):
    """The first pictures of some shards, kept in memory as the files they are: item (epoch, i) is a plain view."""

    source = None  # nothing lies beside them

    def __init__(self, shards: list[str], config: DataConfig):
        self.config = config
        readable = (record for address in shards for record in records(address) if is_readable(record))
        self.records = list(itertools.islice(readable, config.max_validation))
        if not self.records:
            raise ValueError(f"data.folder {config.folder} holds no picture to validate with")

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        """As `ImageViews` without augmentation."""
        load = lambda: picture_of(self.records[key[1]])  # noqa: E731
        return make_views(load, load, self.config, np.random.default_rng(0), False)[0]


def is_readable(record: dict) -> bool:
    """Whether a record has a picture; if not, it is named."""
    try:
        picture_of(record)
    except ValueError as error:
        logger.warning("skipped %s", error)
        return False
    return True
