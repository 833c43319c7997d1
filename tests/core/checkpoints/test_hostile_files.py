"""No file runs code, hangs, fills the memory or leaves another sentence than one that names it."""

import contextlib
import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from tessera.benchmarks.timing import peak_memory_of
from tessera.core.autoencoders.vqgan import VQGAN, VQGANConfig
from tessera.core.autoencoders.vqgan_file import save_vqgan
from tessera.core.checkpoints.diffusers import WEIGHTS, diffusers_weights
from tessera.core.checkpoints.reader import open_checkpoint
from tessera.core.checkpoints.taming_yaml import read_yaml
from tessera.core.loading import load, load_condition_vqgan, load_vqgan
from tessera.tests.core.checkpoints.hostile_pickles import BOMBS, touching
from tessera.tests.core.checkpoints.layouts.original_layout import write_lightning

DOORS = (load_vqgan, load, load_condition_vqgan)


def as_zip(path: Path, structure: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", structure)
        archive.writestr("archive/data/0", b"\0" * 16)
    return path


def as_stream(path: Path, structure: bytes) -> Path:
    """torch's older format with `structure` where the state dict belongs."""
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    path.write_bytes(b"".join(pickle.dumps(part, 2) for part in head) + structure + pickle.dumps([], 2))
    return path


def one_sentence(error: ValueError, path: Path) -> None:
    assert path.name in str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 500


def try_all(path: Path) -> int:
    """Go through every door and read every tensor; how many of them refused."""
    refused = 0
    for door in DOORS:
        try:
            door(path)
        except ValueError as error:
            one_sentence(error, path)
            refused += 1
    try:
        checkpoint = open_checkpoint(path)
        for name in checkpoint.shapes:
            checkpoint.read(name)
    except ValueError as error:
        one_sentence(error, path)
        refused += 1
    return refused


@pytest.mark.parametrize("form", [as_zip, as_stream])
def test_nothing_a_checkpoint_asks_for_is_done(tmp_path, form):
    marker = tmp_path / "marker"
    for name, content in touching(str(marker)).items():
        path = form(tmp_path / "exploit.ckpt", content)
        assert try_all(path) >= len(DOORS), name
        assert not marker.exists(), name


def test_a_real_exploit_is_harmless_here_and_harmful_elsewhere(tmp_path):
    """A checkpoint with tensors that calls `open` on the way; plain unpickling makes the file."""
    marker = tmp_path / "marker"

    class Exploit:
        def __reduce__(self):
            return open, (str(marker), "w")

    path = tmp_path / "exploit.ckpt"
    torch.save({"state_dict": {"a": torch.arange(3.0)}, "callbacks": Exploit()}, path)
    checkpoint = open_checkpoint(path)
    assert torch.equal(checkpoint.read("a"), torch.arange(3.0))
    assert checkpoint.other_entries == ["callbacks"]
    assert not marker.exists()
    script = f"import torch; torch.load({str(path)!r}, weights_only=False)"
    subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert marker.exists()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured on Linux")
@pytest.mark.parametrize("form", [as_zip, as_stream])
def test_bombs_stay_small(tmp_path, form):
    paths = [form(tmp_path / f"{i}.ckpt", content) for i, content in enumerate(BOMBS.values())]

    def open_all() -> None:
        for path in paths:
            with contextlib.suppress(ValueError):
                open_checkpoint(path)

    assert peak_memory_of(open_all) < 400 * 2**20


def small_files(folder: Path) -> dict[str, Path]:
    """Files that are mostly structure, one of each form."""
    names = ("encoder.conv_in.weight", "encoder.down.0.block.0.conv1.weight", "decoder.conv_in.weight",
             "quantize.embedding.weight", "quantize.used", "transformer.tok_emb.weight",
             "permuter.forward_shuffle_idx")  # fmt: skip
    state = {name: torch.arange(4) if "u" in name[:10] else torch.rand(2, 2) for name in names}
    files = {name: folder / f"{name}.ckpt" for name in ("zip", "stream")}
    for name, path in files.items():
        write_lightning(path, state, older_format=name == "stream")
    save_file(state, folder / "foreign.safetensors")
    shape = VQGANConfig(channels=32, channel_mult=(1,), blocks_per_level=1, attention_levels=(), latent_channels=1,
                        code_dim=1, codebook_size=1)  # fmt: skip
    save_vqgan(folder / "ours.safetensors", VQGAN(shape))
    (folder / "vqvae").mkdir()
    (folder / "vqvae" / "config.json").write_text(json.dumps({"_class_name": "VQModel", "sizes": [1, {"a": None}]}))
    save_file(state, folder / "vqvae" / WEIGHTS[0])
    (folder / "model.yaml").write_text(
        "model:\n  target: taming.models.vqgan.VQModel\n  params: {n_embed: 64, ddconfig: {ch_mult: [1, 2], a: 'b'}}\n"
    )
    return files | {
        "foreign": folder / "foreign.safetensors", "ours": folder / "ours.safetensors",
        "config.json": folder / "vqvae" / "config.json", "yaml": folder / "model.yaml",
    }  # fmt: skip


class Originals:
    """Path and content of each small file."""

    def __init__(self, folder: Path):
        self.paths = small_files(folder)
        self.contents = {name: path.read_bytes() for name, path in self.paths.items()}


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> Originals:
    return Originals(tmp_path_factory.mktemp("originals"))


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["replace", "insert", "delete", "repeat", "cut"]),
        st.floats(0, 1),
        st.binary(min_size=1, max_size=8)
        | st.sampled_from([b"\xff" * 8, b"\0" * 8, b"R", b"[", b"{", b"'", b"&a ", b"*a"]),
    ),
    min_size=1,
    max_size=5,
)
STRUCTURE = 3000  # bytes: of larger files the edits meet the beginning and the end


def edited(content: bytes, edits: list[tuple[str, float, bytes]]) -> bytes:
    for kind, share, new in edits:
        place = int(share * min(len(content), 2 * STRUCTURE))
        if place > STRUCTURE:
            place = len(content) - (2 * STRUCTURE - place)
        length = {"replace": len(new), "delete": len(new), "repeat": 0, "insert": 0, "cut": len(content)}[kind]
        put = {"replace": new, "insert": new, "delete": b"", "repeat": content[place : place + 50] * 3, "cut": b""}[
            kind
        ]
        content = content[:place] + put + content[place + length :]
    return content


@pytest.mark.parametrize("form", ["zip", "stream", "foreign", "ours", "config.json", "yaml"])
@settings(max_examples=100, deadline=None)
@given(edits=EDITS)
def test_changed_files_open_or_are_refused(originals, form, edits):
    path, content = originals.paths[form], originals.contents[form]
    path.write_bytes(edited(content, edits))
    before = {p.name for p in path.parent.iterdir()}
    if form in ("yaml", "config.json"):
        try:
            read_yaml(path) if form == "yaml" else diffusers_weights(path.parent)
        except ValueError as error:
            one_sentence(error, path)
    else:
        try_all(path)
    assert {p.name for p in path.parent.iterdir()} == before
    path.write_bytes(content)
