"""Pictures in any number: the same for any number of processes, resumed, with codes and provenance."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tessera.__main__ import main
from tessera.core.bundle import Bundle
from tessera.core.bundle_file import save_bundle
from tessera.core.conditions.kinds import ConditionConfig
from tessera.core.images.io import to_pil
from tessera.core.loading import load, load_vqgan
from tessera.core.priors.transformer import Transformer, TransformerConfig
from tessera.tests.training.shards.test_killed import goes_on_from_anywhere
from tessera.training.shards.manifest import read_manifest
from tessera.training.shards.reading import records


@pytest.fixture
def bundle(stages, tmp_path) -> Path:
    """A model of three classes that has learned nothing."""
    torch.manual_seed(0)
    config = TransformerConfig(
        layers=1, width=32, heads=2, codebook_size=16, vocab_size=19, prefix_length=1, window=8, dropout=0.0
    )
    condition = ConditionConfig(kind="class", offset=16, labels=3)
    path = tmp_path / "classes.safetensors"
    save_bundle(path, Bundle(load_vqgan(stages["vqgan"]), Transformer(config), condition))
    return path


OPTIONS = ("--number", "7", "--classes", "0-2", "--seed", "5", "--per-file", "3", "--batch", "2")


def made(folder: Path) -> dict[str, bytes]:
    shards = read_manifest((folder / "manifest.json").read_bytes(), "")
    return {shard.name: (folder / shard.name).read_bytes() for shard in shards}


def test_each_picture_is_that_of_its_own_seed_with_codes_and_origin(bundle, tmp_path):
    assert main(["generate", str(bundle), "--out", str(tmp_path / "made"), *OPTIONS, "--format", "webp"]) == 0
    found = [record for name in sorted(made(tmp_path / "made")) for record in records(str(tmp_path / "made" / name))]
    assert [record["__key__"] for record in found] == [f"{i:09d}" for i in range(7)]
    model = load(bundle)
    for i, record in enumerate(found):
        alone = model.sample(torch.tensor([i % 3]), seed=5 + i)
        codes = np.load(io.BytesIO(record["codes.npy"]))
        assert codes.dtype == np.uint16
        np.testing.assert_array_equal(codes, alone.canvas.indices[0].numpy())
        picture = np.asarray(Image.open(io.BytesIO(record["webp"])).convert("RGB"), dtype=int)
        assert np.abs(picture - np.asarray(to_pil(alone.images)[0], dtype=int)).max() <= 1
        facts = json.loads(record["json"])
        assert (facts["seed"], facts["label"], facts["temperature"]) == (5 + i, i % 3, 1.0)


def test_what_was_stopped_goes_on_and_other_settings_begin_anew(bundle, tmp_path):
    out = tmp_path / "made"
    assert main(["generate", str(bundle), "--out", str(out), *OPTIONS]) == 0
    whole = made(out)
    (out / "manifest.json").unlink()
    (out / "made-000001.tar").unlink()
    (out / ".made-000001.1-1.partial.tar").write_bytes(b"half")
    assert main(["generate", str(bundle), "--out", str(out), *OPTIONS]) == 0
    assert made(out) == whole
    times = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    assert main(["generate", str(bundle), "--out", str(out), *OPTIONS]) == 0
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")} == times
    assert main(["generate", str(bundle), "--out", str(out), *OPTIONS, "--temperature", "0.5"]) == 0
    assert not whole.items() & made(out).items()
    assert sorted(path.name for path in out.iterdir() if path.suffix == ".tar") == sorted(whole)


def test_generating_goes_on_after_being_killed_anywhere(bundle, tmp_path):
    options = ("--number", "4", "--classes", "0-2", "--per-file", "2", "--batch", "2")
    goes_on_from_anywhere(lambda out: main(["generate", str(bundle), "--out", str(out), *options]), made, tmp_path)


@pytest.mark.slow
def test_two_processes_make_the_bytes_of_one(bundle, start_tessera, start_two, tmp_path):
    command = ("generate", bundle, *OPTIONS)
    one = start_tessera(*command, "--out", tmp_path / "one")
    for process in (one, *start_two(*command, "--out", tmp_path / "two")):
        said = process.communicate(timeout=120)[0]
        assert process.returncode == 0, said
    assert made(tmp_path / "two") == made(tmp_path / "one")


def test_what_a_model_is_not_guided_by_is_refused(bundle, tmp_path, capsys):
    out = ["--out", str(tmp_path / "made"), "--number", "1"]
    for options, words in (
        ([], "give --classes 0-2"),
        (["--classes", "x"], "--classes x can't be read"),
        (["--classes", "0", "--guides", "s3://x"], "leave out --"),
    ):
        assert main(["generate", str(bundle), *out, *options]) == 2
        assert words in capsys.readouterr().err


def test_comparing_without_the_network_s_weights_says_where_they_belong(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert main(["evaluate", "pictures", str(pictures), "--reference", str(pictures)]) == 2
    assert "FID needs the Inception weights of torch-fidelity" in capsys.readouterr().err
