import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tessera.core.bundle_file import load_bundle, save_bundle
from tessera.core.inspection import inspect_model
from tessera.core.storage.old_names import with_current_names
from tessera.training.config.runs import PriorRun, VQGANRun
from tessera.training.config.yaml import load_config

# as version 0.1.0 wrote them
VQGAN = {
    "image_channels": 3, "channels": 32, "channel_mult": [1, 1, 2], "blocks_per_level": 1, "attention_levels": [],
    "latent_channels": 4, "fold": 1, "codebook_size": 16, "code_width": 4, "codebook": "nearest",
    "normalize_codes": False, "commitment_weight": 0.25, "codebook_weight": 1.0, "ema_decay": 0.99, "kl_weight": 0.0005,
}  # fmt: skip
CONDITION = {"kind": "edges", "offset": 16, "labels": 0, "factor": 0, "free": True}
PRIOR_YAML = """
output: out
vqgan: a.safetensors
condition: {kind: edges, vqgan: b.safetensors}
free: {share: 0.5, zoom: [0.9, 1.05], shift: 0.02}
keep: 0.8
data: {folder: pictures, neighbours: 0.15}
"""
VQGAN_YAML = """
output: out
data: {folder: pictures}
model: {channels: 32, channel_mult: [1, 2], attention_levels: [], fold: 2, code_width: 8, ema_decay: 0.95}
"""


def test_a_bundle_of_the_first_version_opens_as_it_was(make_bundle, tmp_path):
    bundle = make_bundle("edges")
    save_bundle(tmp_path / "new.safetensors", bundle)
    with safe_open(tmp_path / "new.safetensors", "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
    config = json.loads(metadata["config"])
    config["vqgan"], config["condition"] = VQGAN, CONDITION
    config["condition_vqgan"] = VQGAN | {"image_channels": 1, "codebook_size": 12}
    save_file(tensors, tmp_path / "old.safetensors", metadata | {"config": json.dumps(config)})

    old = load_bundle(tmp_path / "old.safetensors")
    assert old.vqgan.config == bundle.vqgan.config
    assert old.condition_config.unconditional
    assert inspect_model(tmp_path / "old.safetensors").condition == old.condition_config
    indices = torch.arange(16).view(1, 4, 4)
    assert torch.equal(old.vqgan.decode_indices(indices), bundle.vqgan.decode_indices(indices))


def test_runs_of_the_first_version_are_read(tmp_path):
    (tmp_path / "prior.yaml").write_text(PRIOR_YAML)
    run = load_config(PriorRun, tmp_path / "prior.yaml", ["free.shift=0.1"])
    assert (run.pkeep, run.condition.dropout, run.data.neighbors) == (0.8, 0.5, 0.15)
    assert (run.unconditional.zoom, run.unconditional.shift) == ((0.9, 1.05), 0.1)
    (tmp_path / "vqgan.yaml").write_text(VQGAN_YAML)
    run = load_config(VQGANRun, tmp_path / "vqgan.yaml", ["model.commitment_weight=0.5"])
    model, quantizer = run.model, run.loss.quantizer
    assert (model.patch_size, model.code_dim, model.stride) == (2, 8, 4)
    assert (quantizer.ema_decay, quantizer.commitment_weight, quantizer.codebook_weight) == (0.95, 0.5, 1.0)


def test_old_and_new_name_together_are_refused():
    with pytest.raises(ValueError, match="keep is the old name of pkeep, and both are given; leave out keep"):
        with_current_names(PriorRun, {"keep": 0.5, "pkeep": 0.9})
