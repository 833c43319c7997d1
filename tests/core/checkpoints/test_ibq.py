"""IBQ's tokenizers: told apart from taming's by name, signs or YAML, and equal to the original; see tests/golden."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tessera.core.autoencoders.vqgan import VQGANConfig
from tessera.core.autoencoders.vqgan_file import save_vqgan
from tessera.core.inspection import inspect_model
from tessera.core.loading import load_vqgan
from tessera.tests.core.checkpoints.layouts.original_layout import fill, picture, vqgan_shapes
from tessera.training.config.runs import DataConfig, VQGANRun

GOLDEN = load_file(Path(__file__).parents[2] / "golden" / "llamagen.safetensors")
TAMING, IBQ = "model:\n  target: {}\n  params: {{n_embed: 256}}\n", "src.IBQ.models.ibqgan.IBQ"
LIGHTNING_2 = {"pytorch-lightning_version": "2.1.0"}


def state(blocks: int = 4) -> dict[str, torch.Tensor]:
    return fill(vqgan_shapes(mult=(1, 2), attention=(1,), codes=256, blocks=blocks))


def test_the_moving_averages_give_the_originals_codes_and_pictures(tmp_path):
    averages = {f"model_ema.{name.replace('.', '')}": tensor for name, tensor in state().items()}
    others = {"model_ema.decay": torch.tensor(0.999), "model_ema.num_updates": torch.tensor(-1)}
    stored = {name: tensor / 2 for name, tensor in state().items()} | averages | others
    torch.save({"state_dict": stored, **LIGHTNING_2}, tmp_path / "imagenet256_16384.ckpt")
    vqgan, shown = load_vqgan(tmp_path / "imagenet256_16384.ckpt").eval(), picture("ibq", 1, 3, 24, 32)
    torch.testing.assert_close(vqgan.encode(shown), GOLDEN["ibq.latents"], atol=1e-5, rtol=0)
    assert torch.equal(vqgan.encode_indices(shown).int(), GOLDEN["ibq.indices"])
    torch.testing.assert_close(
        vqgan.decode_indices(GOLDEN["ibq.indices"].long()), GOLDEN["ibq.picture"], atol=1e-5, rtol=0
    )
    save_vqgan(tmp_path / "ours.safetensors", vqgan)
    again = load_vqgan(tmp_path / "ours.safetensors")
    assert again.config == vqgan.config
    assert torch.equal(again.encode_indices(shown), vqgan.encode_indices(shown))


@pytest.mark.parametrize(
    ("name", "blocks", "other_entries", "yaml", "codebook"),
    [
        ("last.ckpt", 4, LIGHTNING_2, "", "product"),
        ("IBQ_16384.ckpt", 2, {}, "", "product"),
        ("last.ckpt", 2, {}, TAMING.format(IBQ), "product"),
        ("last.ckpt", 2, {}, f"model:\n  class_path: {IBQ}\n  init_args: {{n_embed: 256}}\n", "product"),
        ("last.ckpt", 4, LIGHTNING_2, TAMING.format("taming.models.vqgan.VQModel"), "nearest"),
        ("last.ckpt", 2, {}, "", "nearest"),
    ],
)
def test_a_yaml_decides_then_the_name_then_the_signs(tmp_path, name, blocks, other_entries, yaml, codebook):
    path = tmp_path / name
    torch.save({"state_dict": state(blocks), **other_entries}, path)
    if yaml:
        path.with_suffix(".yaml").write_text(yaml)
    assert load_vqgan(path).config.codebook == codebook


@pytest.mark.parametrize(("blocks", "other_entries"), [(2, LIGHTNING_2), (4, {})])
def test_a_file_whose_signs_disagree_is_refused_with_the_cure(tmp_path, blocks, other_entries):
    torch.save({"state_dict": state(blocks), **other_entries}, tmp_path / "last.ckpt")
    for door in (load_vqgan, inspect_model):
        with pytest.raises(ValueError, match=r"last\.ckpt may be a tokenizer of IBQ .* as last\.yaml"):
            door(tmp_path / "last.ckpt")


def test_training_such_a_codebook_is_refused():
    with pytest.raises(ValueError, match=r"codebook product .* can't be trained here"):
        VQGANRun(output="x", data=DataConfig(folder="y"), model=VQGANConfig(codebook="product"))
