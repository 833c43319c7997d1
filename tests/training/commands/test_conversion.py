"""`convert`, `inspect` and `models`: what they write, print and refuse."""

import dataclasses
import hashlib
import re

import pytest
import torch
from safetensors.torch import load_file

from tessera.__main__ import main
from tessera.core.autoencoders.vqgan_file import read_vqgan
from tessera.core.inspection import inspect_model
from tessera.core.loading import load, load_vqgan
from tessera.core.storage.model_file import read_model_file
from tessera.downloads.catalogue import PublishedFile, differences, read_catalogue
from tessera.tests.core.checkpoints.layouts.original_layout import (
    fill,
    loss_shapes,
    prefixed,
    transformer_shapes,
    vqgan_shapes,
    write_lightning,
)

SHAPE = {"channels": 32, "mult": (1, 1), "attention": (1,), "blocks": 1, "codes": 64}
YAML = """model:
  target: taming.models.cond_transformer.Net2NetTransformer
  params:
    cond_stage_key: depth
    cond_stage_config: {target: taming.models.vqgan.VQModel}
    transformer_config: {params: {n_head: 4}}
"""


@pytest.fixture
def vqgan_file(tmp_path):
    return write_lightning(tmp_path / "vqgan.ckpt", fill(vqgan_shapes(**SHAPE)) | fill(loss_shapes()))


@pytest.fixture
def transformer_file(tmp_path):
    shapes = prefixed("transformer", transformer_shapes(vocabulary=64, block=512, layers=1, width=32))
    shapes |= prefixed("first_stage_model", vqgan_shapes(**SHAPE))
    shapes |= prefixed("cond_stage_model", vqgan_shapes(**SHAPE, image_channels=1))
    (tmp_path / "drin.yaml").write_text(YAML)
    return write_lightning(tmp_path / "drin.ckpt", fill(shapes))


def rows(text: str) -> dict[str, str]:
    """What `inspect` printed, by the name before it."""
    return dict(re.fullmatch(r"\s*(.+?)  (.*)", line).groups() for line in text.splitlines())


def test_a_vqgan_is_converted_whole(vqgan_file, tmp_path, capsys):
    target = tmp_path / "new" / "vqgan.safetensors"
    assert main(["convert", str(vqgan_file), str(target)]) == 0
    assert "vqgan, " in capsys.readouterr().out
    released, ours = load_vqgan(vqgan_file), read_vqgan(target)
    assert ours.config == released.config
    assert all(torch.equal(t, released.state_dict()[n]) for n, t in ours.state_dict().items())
    assert read_model_file(target).trained_on == "unknown; from vqgan.ckpt"
    assert [path.name for path in target.parent.iterdir()] == ["vqgan.safetensors"]


def test_half_a_vqgan_takes_half_the_room(vqgan_file, tmp_path):
    assert main(["convert", str(vqgan_file), str(tmp_path / "whole.safetensors")]) == 0
    assert main(["convert", str(vqgan_file), str(tmp_path / "half.safetensors"), "--half"]) == 0
    assert {t.dtype for t in load_file(tmp_path / "half.safetensors").values()} == {torch.float16}
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.6 * sizes[1]


def test_a_transformer_becomes_a_bundle(transformer_file, tmp_path):
    target = tmp_path / "drin.safetensors"
    assert main(["convert", str(transformer_file), str(target)]) == 0
    released, ours = load(transformer_file), load(target)
    assert ours.condition_config == released.condition_config
    assert ours.prior.config == released.prior.config
    assert ours.prior.config.heads == 4
    for part in ("vqgan", "prior", "condition_vqgan"):
        wanted = getattr(released, part).state_dict()
        assert all(torch.equal(t, wanted[n]) for n, t in getattr(ours, part).state_dict().items()), part


def test_a_yaml_elsewhere_can_be_named(transformer_file, tmp_path):
    (tmp_path / "drin.yaml").rename(tmp_path / "elsewhere")
    target = tmp_path / "drin.safetensors"
    assert main(["convert", str(transformer_file), str(target), "--config", str(tmp_path / "elsewhere")]) == 0
    assert load(target).prior.config.heads == 4


def test_our_own_file_is_converted_again_with_what_it_says_of_itself(vqgan_file, tmp_path):
    from tessera.core.autoencoders.vqgan_file import save_vqgan

    save_vqgan(tmp_path / "ours.safetensors", load_vqgan(vqgan_file), license="MIT", trained_on="noise")
    assert main(["convert", str(tmp_path / "ours.safetensors"), str(tmp_path / "half.safetensors"), "--half"]) == 0
    file = read_model_file(tmp_path / "half.safetensors")
    assert (file.license, file.trained_on) == ("MIT", "noise")


def test_what_can_not_be_converted_is_said_and_leaves_nothing(vqgan_file, tmp_path, capsys):
    (tmp_path / "broken.ckpt").write_bytes(vqgan_file.read_bytes()[:1000])
    before = sorted(tmp_path.iterdir())
    for arguments, message in (
        ([vqgan_file, tmp_path / "a.ckpt"], "a.ckpt is not the name of a model file; end it with .safetensors"),
        ([tmp_path / "broken.ckpt", tmp_path / "a.safetensors"], "broken.ckpt can't be read"),
        ([tmp_path / "none.ckpt", tmp_path / "a.safetensors"], "none.ckpt does not exist"),
        ([vqgan_file, tmp_path / "a.safetensors", "--config", tmp_path / "none"], "none does not exist"),
    ):
        assert main(["convert", *map(str, arguments)]) == 2
        assert message in capsys.readouterr().err
        assert sorted(tmp_path.iterdir()) == before
    (tmp_path / "a.safetensors").write_bytes(b"x")
    assert main(["convert", str(tmp_path / "a.safetensors"), str(tmp_path / "a.safetensors")]) == 2
    assert "choose another name" in capsys.readouterr().err


def test_inspect_says_what_a_checkpoint_holds(vqgan_file, capsys):
    assert main(["inspect", str(vqgan_file)]) == 0
    said = rows(capsys.readouterr().out)
    model = load_vqgan(vqgan_file)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    assert said["kind"] == "vqgan"
    assert said["vqgan"] == f"{millions:.2f} million parameters, 64 codes of 16 numbers, 2 pixels a cell"
    assert "channel_mult (1, 1), blocks_per_level 1, attention_levels (1,)" in said["vqgan config"]
    assert said["sha256"] == hashlib.sha256(vqgan_file.read_bytes()).hexdigest()
    assert said["licence"] == "not known"
    assert "callbacks, optimizer_states" in said["besides"]
    assert f"loss ({len(loss_shapes())} tensors)" in said["besides"]
    assert str(vqgan_file) in said["file"]


def test_inspect_says_what_a_transformer_and_a_bundle_hold(transformer_file, tmp_path, capsys):
    assert main(["convert", str(transformer_file), str(tmp_path / "ours.safetensors")]) == 0
    capsys.readouterr()
    found = []
    for path in (transformer_file, tmp_path / "ours.safetensors"):
        assert main(["inspect", str(path)]) == 0
        found.append(rows(capsys.readouterr().out))
        assert found[-1]["kind"] == "bundle"
        assert "heads 4" in found[-1]["prior config"]
        assert found[-1]["condition"].startswith("kind depth, offset 0")
    assert [said["layout"] for said in found] == ["taming transformers", "Tessera"]
    assert all(found[0][part] == found[1][part] for part in ("vqgan", "prior", "condition_vqgan"))


def test_inspect_prints_nothing_that_moves_the_cursor(vqgan_file, tmp_path, capsys):
    from tessera.core.autoencoders.vqgan_file import save_vqgan

    save_vqgan(tmp_path / "odd.safetensors", load_vqgan(vqgan_file), license="\x1b[2Jfree\r\n")
    assert main(["inspect", str(tmp_path / "odd.safetensors")]) == 0
    assert rows(capsys.readouterr().out)["licence"] == "?[2Jfree??"


def test_inspect_refuses_what_could_not_be_opened(tmp_path, capsys):
    state = fill(vqgan_shapes(**SHAPE))
    del state["decoder.conv_out.bias"]
    assert main(["inspect", str(write_lightning(tmp_path / "odd.ckpt", state))]) == 2
    assert "decoder.conv_out.bias is missing" in capsys.readouterr().err


# released files where the other commands take a file


def test_training_starts_from_a_released_checkpoint_of_its_shape(vqgan_file):
    from tessera.core.autoencoders.vqgan import VQGAN
    from tessera.training.stages.vqgan import load_start

    released = load_vqgan(vqgan_file)
    for codebook in ("nearest", "ema"):
        model = VQGAN(dataclasses.replace(released.config, codebook=codebook))
        load_start(model, str(vqgan_file))
        assert torch.equal(model.encoder.conv_in.weight, released.encoder.conv_in.weight)
        assert torch.equal(model.codebook.codes, released.codebook.codes)
    other = VQGAN(dataclasses.replace(released.config, codebook_size=32))
    with pytest.raises(
        ValueError, match=r"start_from .*vqgan\.ckpt .*embedding\.weight is \(64, 16\) instead of \(32, 16\)"
    ):
        load_start(other, str(vqgan_file))


def test_a_prior_is_trained_on_the_stages_of_a_released_transformer(transformer_file):
    from types import SimpleNamespace

    from tessera.training.config.runs import DataConfig, PriorRun, SourceConfig
    from tessera.training.stages.prior import load_stages

    run = PriorRun(output="out", data=DataConfig(folder="x", size=32), vqgan=str(transformer_file),
                   condition=SourceConfig(kind="edges", vqgan=str(transformer_file)))  # fmt: skip
    vqgan, condition = load_stages(run, SimpleNamespace(device="cpu"))
    assert (vqgan.config.image_channels, condition.config.image_channels) == (3, 1)


def test_the_demo_says_when_a_bundle_wants_another_guide(transformer_file, tmp_path, capsys):
    assert main(["demo", "--bundle", str(transformer_file), "--output", str(tmp_path / "out")]) == 2
    assert "drin.ckpt is guided by depth; the demo only has sketch and edges" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# the catalogue


def test_the_catalogue_is_in_order():
    catalogue = read_catalogue()
    assert {"vqgan_imagenet_f16_16384", "vqgan_gumbel_f8", "drin", "cin", "ldm-vq-f8"} <= catalogue.keys()
    weights = [published.files[0].name for published in catalogue.values()]
    assert len(weights) == len(set(weights))
    files = {file for published in catalogue.values() for file in published.files}
    assert len(files) == len({file.name for file in files})  # a tokenizer that several models share is one file
    for published in catalogue.values():
        assert published.kind in ("vqgan", "bundle", "clip")
        assert published.page.startswith("https://")
        assert published.license
        assert ("embed_dim" if published.kind == "clip" else "stride") in published.config
        for file in published.files:
            assert all(address.startswith("https://") for address in file.addresses)
            assert not file.sha256 or re.fullmatch("[0-9a-f]{64}", file.sha256)
            assert ".." not in file.name
            assert not (file.bytes and file.megabytes)


def test_faces_can_be_fetched_from_a_mirror_and_six_models_have_one():
    catalogue = read_catalogue()
    mirrored = {name for name, one in catalogue.items() if any(file.mirrors for file in one.files)}
    assert mirrored == {"vqgan_imagenet_f16_16384", "vqgan_gumbel_f8", "vqgan_wikiart_f16_16384", "sflckr", "faceshq",
                        "vqgan_coco_first_stage"}  # fmt: skip
    assert all(file.addresses for file in catalogue["faceshq"].files)
    assert catalogue["vqgan_coco_first_stage"].config["codebook_size"] == 8192


def test_the_list_says_what_is_there_and_what_is_not(tmp_path, capsys):
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "deep" / "vqgan_gumbel_f8.ckpt").write_bytes(b"x")
    (tmp_path / "b" / "drin.ckpt").mkdir()  # no file
    assert main(["models", "--folder", str(tmp_path / "a"), "--folder", str(tmp_path / "b")]) == 0
    said = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert said.keys() == read_catalogue().keys()
    assert said["vqgan_gumbel_f8"].endswith(str(tmp_path / "a" / "deep" / "vqgan_gumbel_f8.ckpt"))
    assert "377 MB" in said["vqgan_gumbel_f8"]
    assert said["vqgan_imagenet_f16_1024"].endswith("can be fetched")
    assert said["drin"].endswith("https://k00.fr/39jcugc5")


def test_names_that_can_not_be_fetched_are_answered(tmp_path, capsys):
    assert main(["models", "download", "nothing"]) == 2
    assert "'nothing' is not in the list; choose from vqgan_imagenet_f16_1024," in capsys.readouterr().err
    assert main(["models", "download", "drin", "--folder", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert f"open https://k00.fr/39jcugc5 and save drin.ckpt and drin.yaml in {tmp_path}" in said


def test_a_fetched_file_is_compared_with_the_catalogue(vqgan_file, transformer_file):
    published = read_catalogue()["vqgan_imagenet_f16_1024"]
    found = differences(published, inspect_model(vqgan_file))
    assert found == ["stride is 2, not 16", "codebook_size is 64, not 1024", "code_dim is 16, not 256"]
    found = differences(read_catalogue()["cin"], inspect_model(transformer_file))
    assert found == ["stride is 2, not 16", "codebook_size is 64, not 16384", "condition is depth, not class"]
    assert differences(published, inspect_model(transformer_file))[0] == "kind is bundle, not vqgan"


def test_a_rounded_size_counts_as_one():
    assert PublishedFile(name="a", megabytes=3).size == 3_000_000
    assert PublishedFile(name="a", bytes=5).size == 5
    assert PublishedFile(name="a").size == 0
