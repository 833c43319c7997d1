"""A PixelSNAIL and a Llama are trained, resumed, bundled and sampled as the transformer is."""

import math

import pytest
import torch

from tessera.__main__ import main
from tessera.core.loading import load
from tessera.core.priors.llama import Llama
from tessera.core.priors.snail.pixelsnail import PixelSnail
from tessera.training.config.runs import PriorModelConfig
from tessera.training.engine.log import read_csv
from tessera.training.engine.update import prior_optimizers
from tessera.training.stages.prior_models import Codes, build_model

SNAIL = {"kind": "pixelsnail", "blocks": 1, "layers": 1, "width": 16, "kernel": 3}
LLAMA = {"kind": "llama", "layers": 1, "width": 16, "heads": 2}


@pytest.mark.parametrize(
    ("model", "made", "optimizer", "rate"),
    [(SNAIL, PixelSnail, "adamw", 1e-2), (LLAMA, Llama, "adamw", 1e-2), (LLAMA, Llama, "muon", 3e-3)],
)
def test_it_learns_edges_to_pictures_and_its_bundle_paints(
    model, made, optimizer, rate, prior_tree, write_yaml, stages, tmp_path
):
    loop = {"steps": 6, "batch": 8, "learning_rate": rate, "validate_every": 3, "save_every": 3}
    config = write_yaml(prior_tree(model=model, loop=loop, optimizer=optimizer))
    assert main(["train", "prior", str(config), "--set", "loop.steps=3"]) == 0
    assert main(["train", "prior", str(config)]) == 0  # goes on
    figures = read_csv(tmp_path / "prior" / "validation.csv")
    assert figures["nll"][-1] < figures["nll"][0] < 1.05 * math.log(16)
    bundle = str(tmp_path / "bundle.safetensors")
    prior = str(tmp_path / "prior" / "prior.safetensors")
    parts = ["--vqgan", stages["vqgan"], "--prior", prior, "--condition", stages["edges"], "--output", bundle]
    assert main(["bundle", *parts]) == 0
    model = load(bundle)
    assert isinstance(model.prior, made)
    edges = -torch.ones(1, 1, 32, 32)
    images = [model.sample(edges, seed=seed).images for seed in (3, 3, 4)]
    assert images[0].shape == (1, 3, 32, 32)
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_a_llama_block_is_as_large_as_a_transformer_s():
    sizes = {"layers": 1, "width": 96, "heads": 3}
    codes = Codes(16, 17, 1, 4)
    ours, llama = (build_model(PriorModelConfig(kind=kind, **sizes), codes) for kind in ("transformer", "llama"))
    matrices = [sum(p.numel() for p in part.parameters() if p.ndim == 2) for part in (ours.blocks, llama.layers)]
    assert matrices[0] == matrices[1]


def test_muon_turns_the_matrices_of_the_blocks_alone():
    model = build_model(PriorModelConfig(**LLAMA), Codes(16, 17, 1, 4))
    optimizers = prior_optimizers(model.decay_groups(0.1), model.layers, "muon", 0.1)
    turned, others = (
        [p for group in optimizers[name].param_groups for p in group["params"]] for name in ("blocks", "model")
    )
    assert {id(p) for p in turned} == {id(p) for p in model.layers.parameters() if p.ndim == 2}
    assert {id(p) for p in turned + others} == {id(p) for p in model.parameters()}
    assert len(turned) + len(others) == len(list(model.parameters()))


def test_what_does_not_go_together_is_refused(prior_run):
    with pytest.raises(ValueError, match=r"optimizer muon is for model\.kind transformer and llama"):
        prior_run(model=SNAIL, optimizer="muon")
    with pytest.raises(ValueError, match=r"does not go with loop\.sharded or loop\.precision fp16"):
        prior_run(optimizer="muon", loop={"sharded": True})
    with pytest.raises(ValueError, match=r"model\.dropout is 0\.1, and model\.kind llama has none"):
        prior_run(model=LLAMA | {"dropout": 0.1})
