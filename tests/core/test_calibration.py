"""What real images reach, and that it stays with a bundle."""

import dataclasses

import pytest
import torch

from tessera.core.bundle_file import load_bundle, save_bundle
from tessera.core.calibration import scores_of_real
from tessera.core.canvas.codec import encode_canvas
from tessera.core.images.metrics import percentiles
from tessera.core.prepared import prepare_unconditional
from tessera.core.sampling.likelihood import canvas_nll

IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("edges", {"likelihood", "agreement"}),
        ("low-resolution", {"likelihood", "agreement"}),
        ("none", {"free_likelihood"}),
    ],
)
def test_real_images_have_a_likelihood_and_agree_with_what_guides(make_bundle, kind, names):
    scores = scores_of_real(make_bundle(kind), IMAGES)
    assert set(scores) == names
    for score in scores.values():
        assert score.shape == (3,)
        assert ((score >= 0) & (score <= 1)).all()


def test_the_likelihood_is_that_of_the_codes(make_bundle):
    bundle = make_bundle("none")
    canvas = encode_canvas(bundle.vqgan, IMAGES[:1])
    nll = canvas_nll(bundle.prior, prepare_unconditional(bundle, canvas).condition, canvas)
    assert scores_of_real(bundle, IMAGES)["free_likelihood"][0] == pytest.approx(float((-nll.mean()).exp()), rel=1e-4)


def test_what_an_image_does_not_tell_can_not_be_calibrated(make_bundle):
    with pytest.raises(ValueError, match="guided by class can't be calibrated by pictures alone"):
        scores_of_real(make_bundle("class"), IMAGES)


def test_tables_stay_with_the_file(make_bundle, tmp_path):
    table, bundle = percentiles(torch.rand(50)), make_bundle("none")
    save_bundle(tmp_path / "a.safetensors", dataclasses.replace(bundle, reached={"free_likelihood": table}))
    found = load_bundle(tmp_path / "a.safetensors").reached
    torch.testing.assert_close(found["free_likelihood"], table, atol=1e-6, rtol=0)
    save_bundle(tmp_path / "b.safetensors", bundle)
    assert load_bundle(tmp_path / "b.safetensors").reached == {}
    save_bundle(tmp_path / "c.safetensors", dataclasses.replace(bundle, reached={"x": table[:50]}))
    with pytest.raises(ValueError, match=r"c\.safetensors: its table of scores is not 101 ascending numbers"):
        load_bundle(tmp_path / "c.safetensors")
