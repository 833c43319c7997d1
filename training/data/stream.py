"""Batches in a seeded order, endlessly or once."""

import signal
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ..engine.interrupt import SIGNALS


class EndlessOrder(Sampler):
    """(epoch, index) pairs without end, reshuffled each epoch, beginning at item `start` of the stream.

    Of every `world` batches process `rank` takes one, so several processes see what one would.
    """

    def __init__(self, length: int, seed: int, batch: int, start: int = 0, rank: int = 0, world: int = 1):
        self.length, self.seed, self.batch = length, seed, batch
        self.start, self.rank, self.world = start, rank, world

    def __iter__(self) -> Iterator[tuple[int, int]]:
        position = self.start
        epoch, order = -1, None
        while True:
            if position // self.length != epoch:
                epoch = position // self.length
                generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
                order = torch.randperm(self.length, generator=generator)
            if (position - self.start) // self.batch % self.world == self.rank:
                yield epoch, int(order[position % self.length])
            position += 1


def endless(dataset: Dataset, seed: int, batch: int, start: int, workers: int, rank: int, world: int) -> Iterator:
    """Batches without end from item `start` of the shuffled stream; resuming there continues it exactly.

    The loader draws from a generator of its own: training's random state is the same however often it resumes.
    """
    order = EndlessOrder(len(dataset), seed, batch, start, rank, world)
    loader = DataLoader(
        dataset, batch, sampler=order, num_workers=workers,
        generator=torch.Generator(), worker_init_fn=ignore_interrupts,
    )  # fmt: skip
    return iter(loader)


def once(dataset: Dataset, batch: int, rank: int = 0, world: int = 1) -> DataLoader:
    """Every item once, in order, as epoch 0; of several processes each takes its share."""
    keys = [(0, i) for i in range(rank, len(dataset), world)]
    return DataLoader(dataset, batch, sampler=keys, generator=torch.Generator())


def ignore_interrupts(worker: int) -> None:
    """Leave signals to the process that trains: it still needs a batch to finish its step and save."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
