"""A discriminator as a file: a judge of realism with its table."""

import json

import pytest
import torch
from safetensors import safe_open

from tessera.core.autoencoders.discriminator import DiscriminatorConfig, PatchDiscriminator
from tessera.core.autoencoders.discriminator_file import (
    Realism,
    open_discriminator,
    save_discriminator,
    score_realism,
)
from tessera.core.images.metrics import percentiles
from tessera.core.storage.model_file import write_model_file


@pytest.fixture
def judge():
    torch.manual_seed(0)
    made = PatchDiscriminator(DiscriminatorConfig(channels=4))
    made(torch.randn(4, 3, 32, 32))  # BatchNorm has seen something
    return made.eval().requires_grad_(False)


def test_a_discriminator_comes_back_with_its_table_and_says_the_same(judge, tmp_path):
    images = torch.rand(11, 3, 40, 32) * 2 - 1
    scores = score_realism(judge, images)
    assert torch.allclose(scores, torch.stack([judge(image[None]).mean() for image in images]), atol=1e-6)
    save_discriminator(tmp_path / "judge.safetensors", Realism(judge, percentiles(scores)), trained_on="noise")
    back = open_discriminator(tmp_path / "judge.safetensors")
    assert torch.equal(score_realism(back.discriminator, images), scores)
    assert back.reconstructions.shape == (101,)
    assert back.reconstructions[[0, 100]].tolist() == pytest.approx(
        [float(scores.min()), float(scores.max())], abs=1e-4
    )
    save_discriminator(tmp_path / "judge.safetensors", Realism(judge))
    assert open_discriminator(tmp_path / "judge.safetensors").reconstructions is None


def test_images_that_it_cannot_judge_are_refused(judge):
    with pytest.raises(ValueError, match="3 x 23 x 40; this discriminator judges 3 channels of at least 24 pixels"):
        score_realism(judge, torch.zeros(1, 3, 23, 40))
    with pytest.raises(ValueError, match="1 x 32 x 32"):
        score_realism(judge, torch.zeros(1, 1, 32, 32))
    assert score_realism(judge, torch.zeros(1, 3, 24, 24)).isfinite().all()


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ([1.0] * 100, "is not 101 ascending numbers"),
        ([*range(100, -1, -1)], "is not 101 ascending numbers"),
        ([float("nan")] * 101, "is not 101 ascending numbers"),
        (["a"], "holds no numbers"),
    ],
)
def test_a_table_that_is_none_is_refused(judge, tmp_path, table, sentence):
    path = tmp_path / "judge.safetensors"
    save_discriminator(path, Realism(judge))
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"]) | {"reconstructions": table}
        weights = {name.removeprefix("discriminator."): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    write_model_file(path, "discriminator", config, {"discriminator": weights})
    with pytest.raises(ValueError, match=f"judge.safetensors: its table of scores {sentence}"):
        open_discriminator(path)
