"""The doors: folders and files of diffusers."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tessera.core.loading import load_vqgan
from tessera.tests.core.checkpoints.layouts.diffusers_layout import diffusers_shapes
from tessera.tests.core.checkpoints.layouts.original_layout import fill
from tessera.tests.core.checkpoints.opening_files import PICTURE, write

DIFFUSERS = fill(diffusers_shapes(widths=(32, 64), attentive=(1,), codes=64))
CONFIG = {"_class_name": "VQModel", "norm_num_groups": 32, "act_fn": "silu", "num_vq_embeddings": 64}


def diffusers_folder(folder: Path, weights: str = "diffusion_pytorch_model.safetensors", **config) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    write(folder / weights, DIFFUSERS)
    return folder


@pytest.mark.parametrize("weights", ["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin",
                                     "diffusion_pytorch_model.fp16.safetensors"])  # fmt: skip
def test_a_folder_of_diffusers_opens_by_itself_and_by_its_weights(tmp_path, weights):
    folder = diffusers_folder(tmp_path / "vqvae", weights)
    for path in (folder, folder / weights):
        model = load_vqgan(path)
        assert torch.equal(
            model.decoder.up[0].block[2].conv2.weight, DIFFUSERS["decoder.up_blocks.1.resnets.2.conv2.weight"]
        )
        assert torch.equal(model.encoder.down[1].attn[0].q.weight[..., 0, 0],
                           DIFFUSERS["encoder.down_blocks.1.attentions.0.to_q.weight"])  # fmt: skip
        assert model(PICTURE).image.shape == PICTURE.shape


def test_weights_of_diffusers_open_without_a_folder(tmp_path):
    model = load_vqgan(write(tmp_path / "vqvae.safetensors", DIFFUSERS))
    assert (model.config.channel_mult, model.config.attention_levels) == ((1, 2), (1,))


def test_links_as_a_download_cache_has_them_are_followed(tmp_path):
    real = diffusers_folder(tmp_path / "blobs")
    (tmp_path / "snapshot").mkdir()
    for path in real.iterdir():
        (tmp_path / "snapshot" / path.name).symlink_to(path)
    assert load_vqgan(tmp_path / "snapshot").config.codebook_size == 64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_class_name": "AutoencoderKL"}, r"has _class_name 'AutoencoderKL'; only 'VQModel' is known"),
        ({"norm_type": "spatial"}, "has norm_type 'spatial'"),
        ({"norm_num_groups": 8}, "has norm_num_groups '8'; only 32"),
        ({"act_fn": "gelu"}, "has act_fn 'gelu'"),
    ],
)
def test_models_of_diffusers_that_compute_otherwise_are_refused(tmp_path, change, message):
    folder = diffusers_folder(tmp_path / "vqvae", **change)
    for path in (folder, folder / "diffusion_pytorch_model.safetensors"):
        with pytest.raises(ValueError, match=rf"vqvae/config\.json {message}"):
            load_vqgan(path)


def test_folders_that_are_no_model_are_refused(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(ValueError, match=r"folder is a folder without config\.json"):
        load_vqgan(folder)
    (folder / "config.json").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=r"folder is a folder without config\.json"):
        load_vqgan(folder)
    (folder / "config.json").unlink()
    for content in ("{", "[5]", "[" * 60_000, "5", "\xff"):
        (folder / "config.json").write_text(content, encoding="latin-1")
        with pytest.raises(ValueError, match=r"folder/config\.json is not readable JSON"):
            load_vqgan(folder)
    (folder / "config.json").write_text(" " * 70_000)
    with pytest.raises(ValueError, match=r"folder/config\.json has 70000 bytes"):
        load_vqgan(folder)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(ValueError, match=r"folder lacks diffusion_pytorch_model\.safetensors"):
        load_vqgan(folder)
    (folder / "diffusion_pytorch_model.bin").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=r"folder lacks diffusion_pytorch_model\.safetensors"):
        load_vqgan(folder)
    (folder / "model_index.json").write_text("{}")
    with pytest.raises(ValueError, match="choose the one named vqvae"):
        load_vqgan(folder)
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match="folder does not exist"):
        load_vqgan(folder)
