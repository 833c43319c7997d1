"""Stages that only fit together: a prior knows whose codes it learned, whatever kind of file they come from."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tessera.__main__ import main
from tessera.core.autoencoders.vqgan_file import codes_fingerprint, read_vqgan, save_vqgan
from tessera.core.bundle_file import load_bundle, load_prior, save_prior
from tessera.core.inspection import inspect_model
from tessera.tests.core.checkpoints.layouts.diffusers_layout import diffusers_shapes
from tessera.tests.core.checkpoints.layouts.original_layout import fill
from tessera.training.stages.prior import load_views, train_prior


@pytest.fixture
def trained(prior_run):
    """(changes by section) -> a run of one step and the file of its prior."""

    def train(**changes):
        run = prior_run(loop={"steps": 1}, views=1, **changes)
        assert train_prior(run)
        return run, f"{run.output}/prior.safetensors"

    return train


def changed(file: str, to: Path, part: str, half: bool = False) -> str:
    """A VQGAN file with another number in one of its parts."""
    model = read_vqgan(file)
    with torch.no_grad():
        next(model.get_submodule(part).parameters()).flatten()[0] += 0.5
    save_vqgan(to, model, half=half)
    return str(to)


def bundle(prior: str, vqgan: str, condition: str, to: Path) -> int:
    parts = ["--prior", prior, "--vqgan", vqgan, "--condition", condition]
    return main(["bundle", *parts, "--output", str(to)])


@pytest.mark.parametrize("part", ["encoder", "quant_conv", "codebook"])
def test_what_makes_the_codes_has_another_fingerprint_and_the_decoder_has_not(stages, tmp_path, part):
    mine = codes_fingerprint(read_vqgan(stages["vqgan"]))
    assert codes_fingerprint(read_vqgan(changed(stages["vqgan"], tmp_path / "a.safetensors", part))) != mine
    other_decoder = changed(stages["vqgan"], tmp_path / "b.safetensors", "decoder", half=True)
    assert codes_fingerprint(read_vqgan(other_decoder)) == mine


def test_a_prior_is_bundled_with_the_stages_it_learned_alone(trained, stages, tmp_path, capsys):
    _, prior = trained()
    assert inspect_model(prior).stages.keys() == {"vqgan", "condition_vqgan"}
    other = {name: changed(stages[name], tmp_path / f"other-{name}.safetensors", "codebook") for name in stages}
    crisper = changed(stages["vqgan"], tmp_path / "crisper.safetensors", "decoder")
    out = tmp_path / "all.safetensors"
    assert bundle(prior, other["vqgan"], stages["edges"], out) == 2
    assert f"trained on the codes of another vqgan than {other['vqgan']}" in capsys.readouterr().err
    assert bundle(prior, stages["vqgan"], other["edges"], out) == 2
    assert f"another condition_vqgan than {other['edges']}" in capsys.readouterr().err
    assert not out.exists()
    assert bundle(prior, crisper, stages["edges"], out) == 0
    assert load_bundle(out).condition_config.kind == "edges"
    assert bundle(prior, str(out), str(out), tmp_path / "again.safetensors") == 0  # a bundle names both stages


def test_a_bundle_knows_what_held_out_pictures_reach(trained, stages, tmp_path):
    run, prior = trained()
    parts = ["--prior", prior, "--vqgan", stages["vqgan"], "--condition", stages["edges"]]
    out = tmp_path / "all.safetensors"
    assert main(["bundle", *parts, "--output", str(out), "--calibrate", run.data.folder]) == 0
    tables = load_bundle(out).reached
    assert {"likelihood", "agreement"} <= set(tables)
    assert all(len(table) == 101 and 0 <= table[0] <= table[-1] <= 1 for table in tables.values())


def test_a_prior_of_an_older_file_is_bundled_with_a_word(trained, stages, tmp_path, capsys):
    _, prior = trained()
    old = tmp_path / "old.safetensors"
    save_prior(old, load_prior(prior), inspect_model(prior).condition)
    assert bundle(str(old), stages["vqgan"], stages["edges"], tmp_path / "all.safetensors") == 0
    assert "does not say which VQGAN it was trained on" in capsys.readouterr().out


def test_a_run_neither_measures_nor_goes_on_with_a_prior_of_other_codes(trained, prior_run, stages, tmp_path):
    run, prior = trained()
    other = changed(stages["vqgan"], tmp_path / "other.safetensors", "codebook")
    from tessera.training.commands.evaluate import measure_prior

    with pytest.raises(ValueError, match="was trained on the codes of another vqgan"):
        measure_prior(dataclasses.replace(run, vqgan=other), None)
    with pytest.raises(
        ValueError, match=r"state\.pt can't be resumed from .* codes of another vqgan than this run names"
    ):
        train_prior(dataclasses.replace(run, vqgan=other))
    with pytest.raises(ValueError, match=r"start_from .* was trained on the codes of another vqgan"):
        train_prior(dataclasses.replace(run, vqgan=other, output=str(tmp_path / "further"), start_from=prior))
    assert train_prior(dataclasses.replace(run, output=str(tmp_path / "further"), start_from=prior))


# --- the cache of codes


def caches(run) -> int:
    return len(list(Path(run.output).glob("codes-*")))


def test_edited_pictures_are_encoded_anew_and_moved_ones_are_not(trained, pictures, tmp_path):
    mine, elsewhere = tmp_path / "mine", tmp_path / "elsewhere"
    shutil.copytree(pictures, mine)
    tree = {"folder": str(mine), "size": 32, "validation": 0.2}
    run, _ = trained(data=tree)
    shutil.move(mine, elsewhere)
    trained(data=tree | {"folder": str(elsewhere), "workers": 1})
    assert caches(run) == 2  # of learned and held-out pictures
    train_set = load_views(run := dataclasses.replace(run, data=dataclasses.replace(run.data, folder=str(elsewhere))))[
        0
    ]
    Image.new("RGB", (40, 48), "red").save(train_set.paths[0])
    Path(run.output, "state.pt").unlink()
    train_prior(run)
    assert caches(run) == 3


@pytest.mark.parametrize("name", ["folder", "file"])
def test_a_folder_of_diffusers_is_a_first_stage_wherever_one_is_named(trained, prior_run, tmp_path, name):
    folder = tmp_path / "vqvae"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"_class_name": "VQModel", "norm_num_groups": 32, "act_fn": "silu"}))
    tensors = fill(diffusers_shapes(widths=(32, 64), attentive=(1,), codes=64))
    weights = folder / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, weights)
    vqgan = str(folder if name == "folder" else weights)
    small = {"folder": prior_run().data.folder, "size": 16, "validation": 0.2}
    run, prior = trained(vqgan=vqgan, data=small, condition={"kind": "low-resolution", "vqgan": vqgan})
    assert caches(run) == 2
    assert bundle(prior, vqgan, vqgan, tmp_path / "all.safetensors") == 0
