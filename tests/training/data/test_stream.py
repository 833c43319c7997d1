"""The endless stream of pictures: every one once an epoch, resumed exactly, shared among processes."""

from itertools import islice

import pytest
import torch

from tessera.training.config.runs import DataConfig
from tessera.training.data.folder import ImageViews, find_images
from tessera.training.data.stream import EndlessOrder, endless, once


def views_of(pictures, augment: bool, **changes) -> ImageViews:
    config = DataConfig(folder=str(pictures), size=32, flip=False, **changes)
    return ImageViews(find_images(config), config, seed=0, augment=augment)


def test_an_epoch_holds_every_picture_once_and_each_has_its_own_order():
    stream = list(islice(EndlessOrder(10, seed=0, batch=4), 30))
    epochs = [[index for epoch, index in stream if epoch == e] for e in range(3)]
    assert all(sorted(order) == list(range(10)) for order in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert stream != list(islice(EndlessOrder(10, seed=1, batch=4), 30))


@pytest.mark.parametrize("start", [1, 4, 10, 37])
def test_the_stream_resumes_in_the_middle_exactly(start):
    whole = list(islice(EndlessOrder(10, seed=0, batch=4), 80))
    assert list(islice(EndlessOrder(10, seed=0, batch=4, start=start), 40)) == whole[start : start + 40]


@pytest.mark.parametrize("start", [0, 24])
def test_several_processes_together_see_what_one_would(start):
    alone = iter(EndlessOrder(7, seed=0, batch=12, start=start))
    ranks = [iter(EndlessOrder(7, seed=0, batch=4, start=start, rank=rank, world=3)) for rank in range(3)]
    for _ in range(5):
        together = [item for rank in ranks for item in islice(rank, 4)]
        assert together == list(islice(alone, 12))


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_from_the_middle_are_those_of_the_whole_stream(pictures, workers):
    views = views_of(pictures, True, zoom=(0.8, 1.0))
    whole = list(islice(endless(views, 0, 4, 0, 0, 0, 1), 8))
    for wanted, found in zip(whole[5:], endless(views, 0, 4, 20, workers, 0, 1), strict=False):
        assert torch.equal(wanted["color"], found["color"])


def test_reading_pictures_leaves_the_random_state_of_training_alone(pictures):
    views = views_of(pictures, True)
    before = torch.get_rng_state()
    next(endless(views, 0, 4, 0, 0, 0, 1))
    next(iter(once(views, 4)))
    assert torch.equal(torch.get_rng_state(), before)


def test_once_gives_every_picture_in_order(pictures):
    views = views_of(pictures, False)
    found = torch.cat([batch["color"] for batch in once(views, 5)])
    assert torch.equal(found, torch.stack([views[0, i]["color"] for i in range(len(views))]))
