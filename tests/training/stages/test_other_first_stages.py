"""Two grids of codes and the dVAE train by the same command as a VQGAN, and their files open like its."""

import pytest
import torch

from tessera.__main__ import main
from tessera.core.autoencoders.dvae import DVAE, DVAEConfig
from tessera.core.autoencoders.two_level import TwoLevel
from tessera.core.canvas.codec import decode_canvas, encode_canvas
from tessera.core.loading import load_vqgan
from tessera.training.config.runs import DVAELossConfig, PriorRun, VQGANRun
from tessera.training.config.yaml import build
from tessera.training.engine.log import read_csv
from tessera.training.engine.loop import make_accelerator
from tessera.training.stages.dvae import Objective, schedules
from tessera.training.stages.prior import load_stages
from tessera.training.stages.vqgan import train_vqgan

TWO_LEVEL = {
    "kind": "two-level", "channels": 8, "channel_mult": [1, 1], "blocks_per_level": 1, "latent_channels": 8,
    "patch_size": 2, "grid_codes": 16, "grid_code_dim": 4, "norm_groups": 4,
}  # fmt: skip
DVAE_SHAPE = {"kind": "dvae", "hidden": 8, "blocks_per_group": 1, "codebook_size": 16, "code_dim": 6}


def with_model(tree: dict, model: dict, **more) -> dict:
    return {**tree, "model": model, **more}


def test_both_grids_learn_and_keep_their_codes_alive(tiny_tree, write_yaml, tmp_path):
    loss = {"adversarial_weight": 0.8, "adversarial_start": 2, "discriminator_channels": 8}
    tree = with_model(tiny_tree(loss=loss, loop={"steps": 20, "validate_every": 20}), TWO_LEVEL)
    assert main(["train", "vqgan", str(write_yaml(tree))]) == 0
    log, held_out = read_csv(tmp_path / "run" / "train.csv"), read_csv(tmp_path / "run" / "validation.csv")
    assert log["l1"][-1] < 0.8 * log["l1"][0]
    assert held_out["usage"][-1] > 0.2
    model = load_vqgan(tmp_path / "run" / "vqgan.safetensors")
    assert isinstance(model, TwoLevel)
    picture = torch.rand(1, 3, 30, 41) * 2 - 1
    assert decode_canvas(model, encode_canvas(model, picture)).shape == picture.shape


def test_two_grids_are_no_vocabulary_of_a_prior(tiny_tree, prior_tree, tmp_path):
    train_vqgan(build(VQGANRun, with_model(tiny_tree(loop={"steps": 1}), TWO_LEVEL | {"grid_codes": 64}), ""))
    tree = prior_tree(vqgan=str(tmp_path / "run" / "vqgan.safetensors"), condition={"kind": "none"})
    run = build(PriorRun, tree, "")
    with pytest.raises(ValueError, match="1073741824 codes, a prior learns up to"):
        load_stages(run, make_accelerator(run.loop))


def test_a_dvae_learns_by_its_own_losses_and_resumes(tiny_tree, write_yaml, tmp_path):
    tree = with_model(tiny_tree(loop={"steps": 3}), DVAE_SHAPE, dvae={"temperature_steps": 6, "kl_steps": 2})
    del tree["loss"]
    assert main(["train", "vqgan", str(write_yaml(tree))]) == 0
    assert main(["train", "vqgan", str(write_yaml(tree)), "--set", "loop.steps=6"]) == 0
    log = read_csv(tmp_path / "run" / "train.csv")
    assert log["step"] == [1, 2, 3, 4, 5, 6]
    assert log["temperature"][0] == 1
    assert log["temperature"][3] == pytest.approx((1 + 1 / 16) / 2)
    assert log["kl_weight"][2:] == pytest.approx([6.6] * 4)
    assert isinstance(load_vqgan(tmp_path / "run" / "vqgan.safetensors"), DVAE)
    with pytest.raises(ValueError, match=r"learn, loss can't be set for model\.kind dvae"):
        build(VQGANRun, {**tree, "loss": {"l1": 2.0}, "learn": "decoder"}, "")


def test_the_dvae_s_likelihood_grows():
    torch.manual_seed(0)
    objective = Objective(DVAE(DVAEConfig(**{k: v for k, v in DVAE_SHAPE.items() if k != "kind"})))
    image = torch.rand(4, 3, 16, 16) - 0.5
    optimizer, losses = torch.optim.Adam(objective.parameters(), 3e-3), []
    for _ in range(30):
        surprise, divergence = objective(image, 1.0)
        losses.append(surprise + 0.01 * divergence)
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 0.1


def test_schedules_follow_the_paper():
    config = DVAELossConfig()
    assert schedules(config, 0) == (1.0, 0.0)
    assert schedules(config, 10**6) == pytest.approx((1 / 16, 6.6))


def test_an_unknown_kind_is_named(tiny_tree):
    with pytest.raises(ValueError, match=r"model\.kind is 'vqvae'; choose one of vqgan, two-level, dvae"):
        build(VQGANRun, with_model(tiny_tree(), {"kind": "vqvae"}), "")
