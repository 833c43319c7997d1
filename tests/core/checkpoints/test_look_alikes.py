"""Files that are nearly what they seem: wrapped names, other families, whole modules, weights that are none."""

import json
import re

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tessera.core.autoencoders.vqgan import VQGAN, VQGANConfig
from tessera.core.autoencoders.vqgan_file import save_vqgan
from tessera.core.inspection import inspect_model
from tessera.core.loading import load_vqgan
from tessera.core.storage.model_file import write_model_file
from tessera.tests.core.checkpoints.layouts.diffusers_layout import diffusers_shapes
from tessera.tests.core.checkpoints.layouts.original_layout import fill

SHAPE = {"channels": 32, "channel_mult": (1, 1), "attention_levels": (), "latent_channels": 8, "codebook_size": 16}


def vqgan(blocks: int = 1) -> VQGAN:
    torch.manual_seed(0)
    return VQGAN(VQGANConfig(**SHAPE, blocks_per_level=blocks, code_dim=4)).eval()


def released(model: VQGAN) -> dict[str, torch.Tensor]:
    return {name.replace("codebook.", "quantize."): tensor.clone() for name, tensor in model.state_dict().items()}


def prefixed(prefix: str, state: dict) -> dict:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def in_parts(state: dict) -> dict:
    """Names of a model whose halves were wrapped one by one."""
    return {name.replace("coder.", "coder._orig_mod.", 1): tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": prefixed("module.", state)},
        lambda state: {"state_dict": prefixed("_orig_mod.module.", state)},
        lambda state: {"state_dict": in_parts(state)},
        lambda state: {"params_ema": state, "params": {n: t + 1 for n, t in state.items()}},
        lambda state: {"ema": prefixed("module.", state), "optimizer": {"lr": 1}},
        lambda state: {"model": {"state_dict": state}},
        lambda state: prefixed("generator.", state) | {"discriminator.main.0.weight": torch.zeros(3)},
        lambda state: prefixed("generator.", {n: t + 1 for n, t in state.items()}) | prefixed("ema.", state),
    ],
)
def test_weights_under_other_programs_names_are_the_same_vqgan(tmp_path, wrap):
    model = vqgan()
    torch.save(wrap(released(model)), tmp_path / "x.ckpt")
    opened, picture = load_vqgan(tmp_path / "x.ckpt"), torch.rand(1, 3, 16, 16) * 2 - 1
    assert torch.equal(opened(picture).image, model(picture).image)


def test_two_tensors_of_one_name_are_refused(tmp_path):
    state = released(vqgan())
    torch.save(state | prefixed("module.", state), tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match=r"x\.ckpt .*two of its tensors have one name"):
        load_vqgan(tmp_path / "x.ckpt")


@pytest.mark.parametrize("kind", [torch.int64, torch.int8, torch.bool])
def test_weights_of_whole_numbers_are_refused(tmp_path, kind):
    state = released(vqgan())
    state["decoder.conv_out.weight"] = state["decoder.conv_out.weight"].to(kind)
    torch.save(state, tmp_path / "x.ckpt")
    save_file({f"vqgan.{n}".replace("quantize.", "codebook."): t for n, t in state.items()}, tmp_path / "raw")
    for door in (load_vqgan, inspect_model):
        with pytest.raises(ValueError, match=r"x\.ckpt: decoder\.conv_out\.weight holds"):
            door(tmp_path / "x.ckpt")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, number):
    model = vqgan()
    with torch.no_grad():
        model.encoder.conv_in.bias[3] = number
    torch.save(released(model), tmp_path / "x.ckpt")
    save_vqgan(tmp_path / "ours.safetensors", model)
    for path in (tmp_path / "x.ckpt", tmp_path / "ours.safetensors"):
        for door in (load_vqgan, inspect_model):
            with pytest.raises(ValueError, match=rf"{path.name}.*encoder\.conv_in\.bias holds NaN or infinite"):
                door(path)


def test_weights_of_ours_that_are_whole_numbers_are_refused(tmp_path):
    model = vqgan()
    tensors = model.state_dict() | {"encoder.conv_in.bias": torch.zeros(32, dtype=torch.int32)}
    config = {"vqgan": {**SHAPE, "blocks_per_level": 1, "code_dim": 4}}
    write_model_file(tmp_path / "ours.safetensors", "vqgan", config, {"vqgan": tensors})
    for door in (load_vqgan, inspect_model):
        with pytest.raises(ValueError, match="holds int32, weights are of floating point"):
            door(tmp_path / "ours.safetensors")


def test_numbers_too_large_for_half_precision_are_not_stored_as_infinite(tmp_path):
    model = vqgan()
    with torch.no_grad():
        model.encoder.conv_in.bias[3] = 1e6
    with pytest.raises(ValueError, match="beyond what fp16 can"):
        save_vqgan(tmp_path / "half.safetensors", model, half=True)
    assert not list(tmp_path.iterdir())


class Pickled(nn.Module):
    """A module that is pickled whole."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Conv2d(3, 4, 3)


@pytest.mark.parametrize("around", [lambda module: module, lambda module: {"state_dict": module, "epoch": 3}])
def test_whole_module_is_named_and_the_cure_told(tmp_path, around):
    torch.save(around(Pickled()), tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"x\.pt .*whole module \('.*Pickled'\).*save its weights alone"):
        load_vqgan(tmp_path / "x.pt")


def test_flax_and_keras_files_are_called_what_they_are(tmp_path):
    (tmp_path / "flax_model.msgpack").write_bytes(b"\x83\xa7decoder\x80" + bytes(20))
    (tmp_path / "model.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(20))
    with pytest.raises(ValueError, match="as flax writes"):
        load_vqgan(tmp_path / "flax_model.msgpack")
    with pytest.raises(ValueError, match="as Keras writes"):
        load_vqgan(tmp_path / "model.h5")
    folder = tmp_path / "vqvae"
    folder.mkdir()
    (folder / "config.json").write_text('{"_class_name": "VQModel"}')
    (folder / "diffusion_flax_model.msgpack").write_bytes(b"\x81")
    with pytest.raises(ValueError, match="flax weights"):
        load_vqgan(folder)


def shards(folder):
    """A folder of diffusers with weights in two files; and its one-file twin."""
    tensors = {n: t.contiguous() for n, t in fill(diffusers_shapes(widths=(32, 64), attentive=(1,), codes=64)).items()}
    places, names = {}, sorted(tensors)
    for place in (folder, folder.with_name("whole")):
        place.mkdir()
        (place / "config.json").write_text('{"_class_name": "VQModel", "norm_num_groups": 32, "act_fn": "silu"}')
    for number, some in enumerate((names[::2], names[1::2]), 1):
        file = f"diffusion_pytorch_model-{number:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in some}, folder / file)
        places |= dict.fromkeys(some, file)
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    save_file(tensors, folder.with_name("whole") / "diffusion_pytorch_model.safetensors")
    return index, places


def test_folder_with_shards_opens_as_the_one_file_does(tmp_path):
    index, _ = shards(tmp_path / "shards")
    picture = torch.rand(1, 3, 16, 16) * 2 - 1
    whole = load_vqgan(tmp_path / "whole")(picture).image
    for path in (tmp_path / "shards", index):
        assert torch.equal(load_vqgan(path)(picture).image, whole)
    assert inspect_model(tmp_path / "shards").origin == "diffusers"


@pytest.mark.parametrize("file", ["../secret.safetensors", "missing.safetensors", "/etc/passwd", "", "x" * 5000])
def test_index_that_leaves_its_folder_is_refused(tmp_path, file):
    index, places = shards(tmp_path / "shards")
    index.write_text(json.dumps({"weight_map": dict.fromkeys(places, file)}))
    with pytest.raises(ValueError, match="which is not beside it") as refused:
        load_vqgan(tmp_path / "shards")
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("content", ["[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 1}}', "[" * 100_000])
def test_broken_index_is_refused(tmp_path, content):
    index, _ = shards(tmp_path / "shards")
    index.write_text(content)
    with pytest.raises(ValueError, match=re.escape("index.json")):
        load_vqgan(tmp_path / "shards")
