"""Pictures of many millions of pixels as small views: what they show, and what they take."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tessera.benchmarks.timing import peak_memory_of
from tessera.training.config.runs import DataConfig
from tessera.training.data import augment

CONFIG = DataConfig(folder="pictures", size=64, backgrounds=("#ffffff",), zoom=(0.9, 1.4), shift=0.2)


def gradient(width: int, height: int, mode: str) -> Image.Image:
    """Smooth in both directions; with alpha, a disc."""
    corners = Image.fromarray(np.uint8([[[250, 10, 30], [20, 240, 90]], [[60, 90, 220], [200, 180, 20]]]))
    picture = corners.resize((width, height), Image.Resampling.BICUBIC)
    if mode == "RGBA":
        radial = Image.radial_gradient("L").resize((width, height)).point(lambda level: 255 if level < 150 else 0)
        picture.putalpha(radial)
    return picture


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("size", [(700, 500), (2000, 150), (90, 3000)])
def test_the_part_that_shows_makes_the_view_of_the_whole(monkeypatch, mode, size):
    picture = gradient(*size, mode)
    for seed in (None, *range(6)):
        views = []
        for limit in (augment.MAX_FLOATS, 0):
            monkeypatch.setattr(augment, "MAX_FLOATS", limit)
            rng = None if seed is None else np.random.default_rng(seed)
            placement = augment.place(picture, CONFIG, rng)
            views.append(augment.render_view(picture, placement, CONFIG, rng).astype(int))
        whole, part = views
        assert np.abs(whole - part).mean() < (1.0 if mode == "RGB" else 2.5)  # of 255; a disc has a hard edge
        monkeypatch.undo()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured on Linux")
@pytest.mark.parametrize("size", [(6000, 4000), (240_000, 100)])
@pytest.mark.parametrize("flip", [False, True])
def test_a_huge_picture_never_becomes_floats_whole(size, flip):
    picture = Image.new("RGB", size, "#3060a0")
    picture.load()

    def make():
        for draw in range(3):
            rng = np.random.default_rng(draw)
            view = np.ones((64, 64, 3), np.float32)
            scale, center = 64 / min(size), rng.uniform(10, 54, 2)
            assert np.abs(augment.overlay(view, picture, scale, center, flip) * 255 - (0x30, 0x60, 0xA0)).max() < 1

    assert peak_memory_of(make) < 80 * 2**20  # as floats it is 384 MB
