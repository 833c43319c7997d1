"""Palettes and lists reach the draw through the settings, alone and one after the other."""

import json

import pytest
import torch

from tessera.core.canvas.codec import encode_canvas
from tessera.nodes import palette
from tessera.nodes import sample as sampling
from tessera.nodes.host import comfy as adapter
from tessera.nodes.host.handles import BundleHandle, handle_of
from tessera.nodes.host.images import from_image


@pytest.fixture
def model(host, make_bundle):
    bundle = make_bundle("none")
    return BundleHandle("name", bundle, handle_of(bundle.vqgan), adapter.patcher_of(bundle.prior), None)


@pytest.fixture
def picture(model) -> torch.Tensor:
    return torch.rand(1, model.side, model.side, 3, generator=torch.Generator().manual_seed(0))


def painted(model, settings):
    return sampling.SampleCodes.execute(model, 3, 4, 0, settings=settings)[1]


def test_only_the_codes_of_the_picture_are_painted_with(model, picture):
    own = encode_canvas(model.bundle.vqgan, from_image(picture)).indices.unique()
    made = palette.PaletteOfPicture.execute(model, picture, 0.5, 0.0, True)
    codes = painted(model, made[0]).indices.unique()
    assert set(codes.tolist()) <= set(own.tolist())
    assert len(painted(model, None).indices.unique()) > len(own)
    assert made[1].shape[0] == 1
    assert made[1].std() > 0  # swatches, not one flat color


def test_a_list_after_a_palette_adds_to_it_and_the_picture_remembers(model, picture):
    first, _ = palette.PaletteOfPicture.execute(model, picture, 1.0, 1.0, False).args
    favorite = int(first.bias.argmax())
    both = palette.BanAndBoost.execute(model, str(favorite), "", 2.0, first)[0]
    assert both.bias[favorite] == -torch.inf
    others = torch.arange(len(both.bias)) != favorite
    assert torch.equal(both.bias[others], first.bias[others])
    canvas = painted(model, both)
    assert not (canvas.indices == favorite).any()
    assert json.loads(canvas.provenance[0])["bias"]


def test_lists_that_name_no_codes_are_refused_before_anything_runs():
    assert "'x' is no code" in palette.BanAndBoost.validate_inputs("3, x", "")
    assert palette.BanAndBoost.validate_inputs("3, 40-60", None) is True
