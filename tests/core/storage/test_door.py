"""Whatever a file says or a name is: one short sentence, and no more memory than the file is worth."""

import json
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from safetensors.torch import save_file

from tessera.benchmarks.timing import peak_memory_of
from tessera.core.autoencoders.vqgan import VQGAN, VQGANConfig
from tessera.core.autoencoders.vqgan_file import save_vqgan
from tessera.core.canvas.canvas import Canvas
from tessera.core.canvas.canvas_file import load_canvas, save_canvas
from tessera.core.checkpoints.taming_yaml import read_yaml
from tessera.core.conditions.layout import parse_boxes
from tessera.core.images.io import open_image
from tessera.core.inspection import inspect_model
from tessera.core.loading import load, load_vqgan
from tessera.core.provenance import KEY, read_note, write_note
from tessera.core.sampling.settings import parse_values
from tessera.core.storage.door import brief

DOORS = (load_vqgan, load, inspect_model, load_canvas, read_note, open_image, read_yaml)


def said(door, given) -> str:
    """What a door refuses with."""
    with pytest.raises((ValueError, FileNotFoundError)) as refused:
        door(given)
    words = str(refused.value)
    assert "\n" not in words
    assert len(words) < 500
    return words


@pytest.mark.parametrize("door", DOORS)
def test_names_that_no_file_has_links_to_themselves_and_folders_are_refused(tmp_path, door):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / ("x" * 5000), tmp_path / "loop", tmp_path / "nothing", tmp_path / "a\0b"):
        assert "does not exist" in said(door, path)
    said(door, tmp_path / "folder")
    (tmp_path / "empty").touch()
    said(door, tmp_path / "empty")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
@pytest.mark.parametrize("door", DOORS)
def test_file_that_may_not_be_read_is_refused(tmp_path, door):
    (tmp_path / "locked").write_bytes(b"PK")
    (tmp_path / "locked").chmod(0)
    assert "may not be read" in said(door, tmp_path / "locked")


def png(path, width: int, height: int, text: str = ""):
    """A PNG that declares a size it has no pixels for."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    note = chunk(b"tEXt", KEY.encode() + b"\0" + text.encode()) if text else b""
    pixels = chunk(b"IDAT", zlib.compress(b"\0"))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + note + pixels + chunk(b"IEND", b""))
    return path


def test_png_that_declares_too_many_pixels_is_refused(tmp_path):
    for door in (read_note, open_image):
        said(door, png(tmp_path / "bomb.png", 60_000, 60_000, "{}"))


@pytest.mark.parametrize(
    "change",
    [
        {"indices": [[float("nan")]]}, {"indices": [[-1]]}, {"indices": [[10**400]]}, {"indices": [["1" * 10_000]]},
        {"overhang": [1e400, 0]}, {"overhang": "x" * 10_000}, {"wrap": "y" * 10_000}, {"known": []},
    ],
)  # fmt: skip
def test_note_of_a_picture_that_can_not_be_is_refused(tmp_path, change):
    note = json.loads(write_note(Canvas.filled(torch.ones(1, 1, 1, dtype=torch.int64)), 0, "a"))
    info = PngImagePlugin.PngInfo()
    info.add_text(KEY, json.dumps(note | change))
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png", pnginfo=info)
    assert "a.png" in said(read_note, tmp_path / "a.png")


def safetensors(path, header: dict, length: int = 0, declared: int | None = None):
    """A safetensors file of a header and a hole of `length` bytes."""
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", declared or len(text)) + text)
        file.truncate(8 + len(text) + length)
    return path


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("overhang", "[" * 100_000), ("origins", "[" * 100_000), ("overhang", "[1e400, 0]"), ("wrap", "x" * 100_000),
        ("overhang", "[NaN, 0]"), ("kind", "y" * 100_000),
    ],
)  # fmt: skip
def test_canvas_with_metadata_that_can_not_be_is_refused(tmp_path, name, change):
    path = tmp_path / "a.canvas.safetensors"
    tensors = {"indices": torch.zeros(1, 2, 2, dtype=torch.int64), "known": torch.ones(1, 2, 2, dtype=torch.bool)}
    save_file(tensors, path, {"kind": "canvas", name: change} if name != "kind" else {name: change})
    assert path.name in said(load_canvas, path)


@pytest.mark.parametrize(
    "indices",
    [torch.full((1, 2, 2), torch.nan), torch.full((1, 2, 2), -3), torch.zeros(1, 2, 2, dtype=torch.bool),
     torch.zeros(1, 0, 2, dtype=torch.int64), torch.zeros(4, dtype=torch.int64),
     torch.zeros(1, 2, 2).to(torch.float8_e4m3fn)],
)  # fmt: skip
def test_canvas_of_codes_that_are_none_is_refused(tmp_path, indices):
    path = tmp_path / "a.canvas.safetensors"
    save_file({"indices": indices, "known": torch.ones(indices.shape, dtype=torch.bool)}, path, {"kind": "canvas"})
    assert path.name in said(load_canvas, path)


def test_canvas_is_still_read_as_it_was_saved(tmp_path):
    canvas = Canvas(torch.tensor([[[3, 70_000]]]), torch.tensor([[[True, False]]]), (0.5, 0.25))
    save_canvas(tmp_path / "a.safetensors", canvas)
    assert load_canvas(tmp_path / "a.safetensors").padding == (0.5, 0.25)
    assert torch.equal(load_canvas(tmp_path / "a.safetensors").indices, canvas.indices)


def test_files_with_holes_and_long_headers_take_no_memory(tmp_path):
    big, entry = 64 * 2**30, {"dtype": "F32", "data_offsets": [0, 64 * 2**30]}
    ours = {"format": "tessera/1", "kind": "vqgan", "config": '{"vqgan": {}}'}
    hole = {"encoder.conv_in.weight": {**entry, "shape": [2**31, 8]}}
    known = {"known": {**entry, "dtype": "BOOL", "shape": [0], "data_offsets": [big, big]}}
    files = [
        safetensors(tmp_path / "foreign.safetensors", hole, big),
        safetensors(tmp_path / "ours.safetensors", {"__metadata__": ours, **hole}, big),
        safetensors(
            tmp_path / "canvas.safetensors",
            {"__metadata__": {"kind": "canvas"}, "indices": {**entry, "dtype": "I64", "shape": [2**33]}, **known}, big,
        ),
        safetensors(tmp_path / "header.safetensors", {"a": 1}, 93 * 2**20, 93 * 2**20),
    ]  # fmt: skip

    def open_all() -> None:
        for path in files:
            for door in (load_vqgan, inspect_model, load_canvas):
                said(door, path)

    assert peak_memory_of(open_all) < 300 * 2**20


@pytest.mark.parametrize(
    "change",
    [
        {"channels": 1e10}, {"channels": 10**10}, {"channel_mult": ["a", 1]}, {"channel_mult": [1] * 100_000},
        {"channels": 10**9, "channel_mult": ["a"]}, {"codebook_size": True}, {"codebook_size": float("nan")},
        {"attention_levels": "0" * 100_000}, {"blocks_per_level": "2"}, {"x" * 100_000: 1}, {"codebook": "z" * 100_000},
        {"channels": 2**30, "latent_channels": 2**30}, {"patch_size": 2**30},
    ],
)  # fmt: skip
def test_config_that_can_not_be_is_refused(tmp_path, change):
    shape = {"channels": 32, "channel_mult": (1,), "blocks_per_level": 1, "attention_levels": (), "latent_channels": 1}
    model = VQGAN(VQGANConfig(**shape, code_dim=1, codebook_size=1))
    save_vqgan(tmp_path / "good.safetensors", model)
    config = json.dumps({"vqgan": {**shape, "code_dim": 1, "codebook_size": 1} | change})
    tensors = {f"vqgan.{name}": tensor for name, tensor in model.state_dict().items()}
    path = tmp_path / "a.safetensors"
    save_file(tensors, path, {"format": "tessera/1", "kind": "vqgan", "config": config})
    assert "a.safetensors" in said(load_vqgan, path)


@pytest.mark.parametrize("value", ["0x" + "f" * 50_000, "9" * 50_000, "1" + ":59" * 50_000, "1.0e+" + "9" * 1000])
def test_numbers_of_a_yaml_that_no_file_has_are_refused(tmp_path, value):
    (tmp_path / "a.yaml").write_text(f"model:\n  target: taming.models.vqgan.VQModel\n  params: {{n_embed: {value}}}\n")
    assert "a.yaml" in said(read_yaml, tmp_path / "a.yaml")


@pytest.mark.parametrize("text", ["inf", "1, nan", "-inf 2", "x" * 2**20, "1 " * 2**20, "9" * 5000 + "x", "1e999"])
def test_values_of_a_sweep_are_finite_numbers(text):
    said(parse_values, text)


@pytest.mark.parametrize("line", ["x" * 2**20, "9" * 5000 + " 0 0 1 1", "1 " * 2**19])
def test_boxes_are_quoted_in_short(line):
    said(parse_boxes, line)


def test_brief_keeps_short_words_and_cuts_long_ones():
    assert brief("a b") == "a b"
    assert brief("a\n  b\x1b") == "a b"
    assert brief("x" * 2**20) == "x" * 77 + "..."
    assert brief(10**5000) == "a very long int"
    assert brief(np.zeros(3)) == "[0. 0. 0.]"
