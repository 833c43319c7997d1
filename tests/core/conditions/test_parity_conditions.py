"""Conditions are prepared as the original prepares them; tests/golden/README.md says how made."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tessera.core.conditions.layout import Box, LayoutCondition, layout_tokens
from tessera.core.conditions.maps import depth, low_resolution
from tessera.core.conditions.spatial import CoordinatesCondition
from tessera.core.geometry import Window
from tessera.tests.core.checkpoints.layouts.original_layout import numbers, picture

GOLDEN = load_file(Path(__file__).parent.parent.parent / "golden" / "conditions.safetensors")


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 52), (20, 25), (30, 50), (64, 48)])
def test_coordinates_are_the_original_s(height, width):
    prefix = CoordinatesCondition((height, width), steps=1024, stride=16).prefix(Window(0, 0, height, width))
    assert torch.equal(prefix.view(height, width), GOLDEN[f"coordinates.{height}x{width}"].long())


def test_coordinates_of_a_window_are_those_of_the_crop():
    prefix = CoordinatesCondition((32, 48), steps=1024, stride=16).prefix(Window(8, 20, 16, 16))
    assert torch.equal(prefix.view(16, 16), GOLDEN["coordinates.crop"].long())


@pytest.mark.parametrize("name", ["usual", "narrow", "flat"])
def test_depth_is_the_original_s(name):
    usual = numbers("depth parity", (24, 32), 3.0, 40.0)
    given = {"usual": usual, "narrow": usual * 1e-8, "flat": torch.full((24, 32), 7.0)}[name]
    torch.testing.assert_close(depth(given[None, None])[0, 0], GOLDEN[f"depth.{name}"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("factor", [4, 8])
def test_low_resolution_is_the_original_s(factor):
    made = low_resolution(picture("low resolution", 1, 3, 48, 70), factor)
    torch.testing.assert_close(made[0], GOLDEN[f"low-resolution.{factor}"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("vocabulary", [1024, 2048, 8192, 16384])
def test_layouts_are_the_original_s(vocabulary):
    rows = numbers(f"boxes {vocabulary}", (30, 5), 0, 1).tolist()
    boxes = [Box(int(a * 5), x, y, w * (1 - x), h * (1 - y)) for a, x, y, w, h in rows]
    assert torch.equal(layout_tokens(boxes, vocabulary)[0], GOLDEN[f"layout.{vocabulary}"].long())


@pytest.mark.parametrize(("top", "left"), [(0, 0), (3, 5), (8, 0), (8, 16)])
def test_a_window_on_a_layout_sees_what_the_original_s_crop_does(top, left):
    rows = numbers("scene", (20, 5), 0, 1).tolist()
    boxes = [Box(int(a * 50), x, y, 0.5 * w * (1 - x), 0.5 * h * (1 - y)) for a, x, y, w, h in rows]
    prefix = LayoutCondition(boxes, (24, 32), 8192).prefix(Window(top, left, 16, 16))
    assert torch.equal(prefix[0], GOLDEN[f"layout.window.{top}.{left}"].long())


def test_a_window_over_the_border_is_told_the_part_of_the_layout_that_is_there():
    boxes = [Box(1, 0.1, 0.2, 0.3, 0.3)]
    condition = LayoutCondition(boxes, (24, 12), 8192)
    whole_width = condition.prefix(Window(-4, -2, 16, 16, "both"))
    assert torch.equal(whole_width, layout_tokens(boxes, 8192, Box(0, 0, 0, 1, 0.5)))
