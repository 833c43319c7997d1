import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tessera.core.autoencoders.vqgan import VQGAN, VQGANConfig
from tessera.core.autoencoders.vqgan_file import read_vqgan, save_vqgan
from tessera.core.storage.model_file import read_model_file, write_model_file


def tiny(**changes) -> VQGAN:
    torch.manual_seed(0)
    shape = {"channels": 32, "channel_mult": (1, 1), "blocks_per_level": 1, "attention_levels": (), **changes}
    model = VQGAN(VQGANConfig(latent_channels=4, code_dim=4, codebook_size=8, **shape))
    return model.eval()


def picture() -> torch.Tensor:
    return torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(1)) * 2 - 1


def rewrite(path, change) -> None:
    """Let `change(tensors, config)` alter a file's tensors and VQGAN config in place."""
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    config = json.loads(metadata["config"])
    change(tensors, config["vqgan"])
    save_file(tensors, path, {**metadata, "config": json.dumps(config)})


@pytest.mark.parametrize("changes", [{}, {"codebook": "gumbel"}, {"normalize_codes": True}, {"attention_levels": (1,)}])
def test_saved_vqgan_comes_back_the_same(tmp_path, changes):
    model, path = tiny(**changes), tmp_path / "new folder" / "vqgan.safetensors"
    save_vqgan(path, model, license="MIT", trained_on="noise")
    loaded = read_vqgan(path)
    assert loaded.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert torch.equal(loaded(picture()).image, model(picture()).image)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    file = read_model_file(path)
    assert (file.kind, file.license, file.trained_on) == ("vqgan", "MIT", "noise")
    assert [p.name for p in path.parent.iterdir()] == ["vqgan.safetensors"]


def test_half_precision_halves_the_file_and_loads_as_float32(tmp_path):
    model = tiny()
    save_vqgan(tmp_path / "whole.safetensors", model)
    save_vqgan(tmp_path / "half.safetensors", model, half=True)
    sizes = [(tmp_path / name).stat().st_size for name in ("half.safetensors", "whole.safetensors")]
    assert sizes[0] < 0.55 * sizes[1]
    assert {t.dtype for t in read_model_file(tmp_path / "half.safetensors").tensors.values()} == {torch.float32}
    loaded = read_vqgan(tmp_path / "half.safetensors")
    for name, tensor in model.state_dict().items():
        assert loaded.state_dict()[name].dtype == torch.float32
        assert torch.equal(loaded.state_dict()[name], tensor.half().float()), name


def test_whole_numbers_keep_their_type_in_half_precision(tmp_path):
    parts = {"vqgan": {"used": torch.arange(70_000), "weight": torch.ones(2)}}
    write_model_file(tmp_path / "a.safetensors", "vqgan", {"vqgan": {}}, parts, half=True)
    tensors = read_model_file(tmp_path / "a.safetensors").tensors
    assert torch.equal(tensors["vqgan.used"], torch.arange(70_000))


def test_moving_average_codebook_is_stored_as_a_plain_one(tmp_path):
    model, path = tiny(codebook="ema"), tmp_path / "ema.safetensors"
    model.codebook.ema_update(torch.randn(20, 4))
    save_vqgan(path, model)
    loaded = read_vqgan(path)
    assert loaded.config.codebook == "nearest"
    assert not any("ema_" in name for name in read_model_file(path).tensors)
    assert torch.equal(loaded.encode_indices(picture()), model.encode_indices(picture()))
    assert torch.equal(loaded(picture()).image, model(picture()).image)


def test_safetensors_of_another_program_are_refused(tmp_path):
    path = tmp_path / "foreign.safetensors"
    for metadata in (None, {"format": "pt"}):
        save_file({"weight": torch.ones(2)}, path, metadata)
        with pytest.raises(ValueError, match=r"foreign.safetensors is a safetensors file of another program"):
            read_vqgan(path)


@pytest.mark.parametrize("config", [{}, {"config": "{not json"}])
def test_file_without_a_readable_config_is_refused(tmp_path, config):
    path = tmp_path / "odd.safetensors"
    save_file({"weight": torch.ones(2)}, path, {"format": "tessera/1", "kind": "vqgan", **config})
    with pytest.raises(ValueError, match=r"odd.safetensors has no readable config"):
        read_vqgan(path)


@pytest.mark.parametrize("config", ["[]", "5", '{"vqgan": 5}', '{"vqgan": []}', '{"vqgan": {"channels": "many"}}'])
def test_config_of_the_wrong_form_is_refused_with_the_file_s_name(tmp_path, config):
    path = tmp_path / "odd.safetensors"
    save_file({"weight": torch.ones(2)}, path, {"format": "tessera/1", "kind": "vqgan", "config": config})
    with pytest.raises(ValueError, match=r"odd.safetensors"):
        read_vqgan(path)


def test_file_that_is_not_safetensors_is_refused(tmp_path):
    path = tmp_path / "text.safetensors"
    for content in (b"", b"hello", b"\xff" * 100, bytes(100)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"text.safetensors is truncated or not a safetensors file"):
            read_vqgan(path)


@pytest.mark.parametrize("percent", [*range(0, 100, 10), 99])
def test_file_cut_short_is_refused(tmp_path, percent):
    path = tmp_path / "short.safetensors"
    save_vqgan(path, tiny())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * percent // 100])
    with pytest.raises(ValueError, match=r"short.safetensors is truncated or not a safetensors file.*fetch it again"):
        read_vqgan(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.safetensors does not exist"):
        read_vqgan(tmp_path / "none.safetensors")


def test_part_that_the_file_does_not_hold_is_named(tmp_path):
    path = tmp_path / "other.safetensors"
    write_model_file(path, "prior", {"prior": {}}, {"prior": {"weight": torch.ones(1)}})
    with pytest.raises(ValueError, match=r"other.safetensors holds prior, not a vqgan"):
        read_vqgan(path)


def test_missing_unexpected_and_misshapen_tensors_are_all_named(tmp_path):
    path = tmp_path / "odd.safetensors"
    save_vqgan(path, tiny())

    def change(tensors, config):
        del tensors["vqgan.quant_conv.bias"]
        tensors["vqgan.quant_conv.scale"] = torch.ones(1)
        tensors["vqgan.post_quant_conv.bias"] = torch.ones(5)

    rewrite(path, change)
    with pytest.raises(ValueError, match=r"odd.safetensors.*does not hold what its config says") as caught:
        read_vqgan(path)
    assert "quant_conv.bias is missing" in str(caught.value)
    assert "quant_conv.scale is unexpected" in str(caught.value)
    assert "post_quant_conv.bias is (5,) instead of (4,)" in str(caught.value)


def test_many_wrong_tensors_are_counted_instead_of_listed(tmp_path):
    path = tmp_path / "odd.safetensors"
    save_vqgan(path, tiny())
    removed = []

    def change(tensors, config):
        removed.extend(name for name in list(tensors) if ".encoder." in name)
        for name in removed:
            del tensors[name]

    rewrite(path, change)
    with pytest.raises(ValueError, match=rf"and {len(removed) - 5} more"):
        read_vqgan(path)


def test_config_entry_of_a_later_version_is_refused(tmp_path):
    path = tmp_path / "later.safetensors"
    save_vqgan(path, tiny())
    rewrite(path, lambda tensors, config: config.update(wings=2))
    with pytest.raises(ValueError, match=r"later.safetensors.*wings.*update Tessera"):
        read_vqgan(path)


def test_failed_writing_leaves_the_old_file_and_no_partial_one(tmp_path):
    path = tmp_path / "vqgan.safetensors"
    save_vqgan(path, tiny())
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_vqgan(path, tiny(), license=5)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["vqgan.safetensors"]


def test_target_that_is_a_folder_leaves_no_partial_file(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        save_vqgan(tmp_path / "taken", tiny())
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_model_stays_usable_and_unchanged_after_its_file_is_overwritten(tmp_path):
    path, model = tmp_path / "vqgan.safetensors", tiny()
    save_vqgan(path, model)
    loaded = read_vqgan(path)
    save_vqgan(path, tiny(channel_mult=(1, 2)))
    assert torch.equal(loaded(picture()).image, model(picture()).image)
