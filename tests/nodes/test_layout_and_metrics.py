"""Scene layouts as boxes, and how alike pictures are, through the nodes."""

import math
import sys

import pytest
import torch

from tessera.core.conditions.layout import layout_tokens
from tessera.core.geometry import Window
from tessera.core.images import lpips
from tessera.nodes import compare, layout
from tessera.nodes import sample as sampling
from tessera.nodes.host import comfy as adapter
from tessera.nodes.host.handles import BundleHandle, handle_of

BOXES = "2 0 0.5 1 0.5  # the ground\n\n7, 0.25, 0.25, 0.5, 0.5\n"


def scenes(make_bundle, kind: str = "layout") -> BundleHandle:
    bundle = make_bundle(kind)
    return BundleHandle("name", bundle, handle_of(bundle.vqgan), adapter.patcher_of(bundle.prior), None)


def test_boxes_guide_a_picture_of_any_size_and_are_shown(host, make_bundle):
    model = scenes(make_bundle)
    guide, shown = layout.SceneLayout.execute(model, BOXES, 32, 16).args
    expected = layout_tokens(guide.condition.boxes, 64 - 16) + 16
    assert torch.equal(guide.condition.prefix(Window(0, 0, 4, 8)), expected)
    assert [box.label for box in guide.condition.boxes] == [2, 7]
    assert guide.canvas.size == (4, 8)
    assert shown.shape == (1, 16, 32, 3)
    assert not torch.equal(shown[0, 2, 2], shown[0, 14, 2])  # ground and what is above it
    made = sampling.SampleCodes.execute(model, 0, 2, 0, condition=guide)
    assert made[0].shape == (2, 16, 32, 3)
    bare = sampling.SampleCodes.execute(model, 0, 2, 0, condition=layout.SceneLayout.execute(model, "", 32, 16)[0])
    assert not torch.equal(made[1].indices, bare[1].indices)


@pytest.mark.parametrize(
    ("boxes", "sentence"),
    [
        ("1 0 0 1 1\n2 0 0", "line 2 of the boxes is '2 0 0'; write label left top width height"),
        ("cat 0 0 1 1", "line 1 of the boxes is 'cat 0 0 1 1'"),
        ("1 0.5 0 0.6 1", "leaves the picture; left, top, width and height are shares of 0 to 1"),
        ("1 nan 0 0.6 1", "leaves the picture"),
        ("47 0 0 1 1", "label 47 does not exist; choose 0 to 46"),
        ("-1 0 0 1 1", "label -1 does not exist"),
        ("1 0 0 1 1\n" * 31, "the layout has 31 boxes; at most 30 fit"),
    ],
)
def test_boxes_that_can_not_be_are_refused(host, make_bundle, boxes, sentence):
    with pytest.raises(ValueError, match=sentence):
        layout.SceneLayout.execute(scenes(make_bundle), boxes, 16, 16)


def test_model_of_another_kind_takes_no_boxes(host, make_bundle):
    with pytest.raises(ValueError, match="guided by none, not by layout; leave the condition out"):
        layout.SceneLayout.execute(scenes(make_bundle, "none"), BOXES, 16, 16)


def test_other_measures_come_where_lpips_can_not_be_had(host, monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    lpips.lpips_network.cache_clear()
    a, b = torch.rand(2, 20, 20, 3), torch.rand(2, 20, 20, 3)
    noise, likeness, distance, report = (found := compare.ComparePictures.execute(a, b, True)).args
    assert math.isnan(distance)
    assert 3 < noise < 12
    assert abs(likeness) < 1
    assert report.startswith(f"PSNR {noise:.2f} dB, SSIM {likeness:.3f}, LPIPS can't be had here (")
    assert found.ui.value == host.said[0][0] == report
    assert "not measured" in compare.ComparePictures.execute(a, b, False)[3]


def test_pictures_too_small_for_lpips_are_measured_otherwise(host):
    found = compare.ComparePictures.execute(torch.rand(1, 12, 14, 3), torch.rand(1, 12, 14, 3), True)
    assert math.isnan(found[2])
    assert "give at least 16 a side" in found[3]
