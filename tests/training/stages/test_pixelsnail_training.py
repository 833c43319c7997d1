"""A PixelSNAIL is trained, resumed, bundled and sampled as the transformer is."""

import math

import torch

from tessera.__main__ import main
from tessera.core.loading import load
from tessera.core.priors.snail.pixelsnail import PixelSnail
from tessera.training.engine.log import read_csv

SNAIL = {"kind": "pixelsnail", "blocks": 1, "layers": 1, "width": 16, "kernel": 3}


def test_pixelsnail_learns_edges_to_pictures_and_its_bundle_paints(prior_tree, write_yaml, stages, tmp_path):
    loop = {"steps": 6, "batch": 8, "learning_rate": 1e-2, "validate_every": 3, "save_every": 3}
    config = write_yaml(prior_tree(model=SNAIL, loop=loop))
    assert main(["train", "prior", str(config), "--set", "loop.steps=3"]) == 0
    assert main(["train", "prior", str(config)]) == 0  # goes on
    figures = read_csv(tmp_path / "prior" / "validation.csv")
    assert figures["nll"][-1] < figures["nll"][0] < 1.05 * math.log(16)
    bundle = str(tmp_path / "bundle.safetensors")
    prior = str(tmp_path / "prior" / "prior.safetensors")
    parts = ["--vqgan", stages["vqgan"], "--prior", prior, "--condition", stages["edges"], "--output", bundle]
    assert main(["bundle", *parts]) == 0
    model = load(bundle)
    assert isinstance(model.prior, PixelSnail)
    edges = -torch.ones(1, 1, 32, 32)
    images = [model.sample(edges, seed=seed).images for seed in (3, 3, 4)]
    assert images[0].shape == (1, 3, 32, 32)
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])
