"""Files and canvases of other kinds than wanted: each is told what it is, in one sentence."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tessera.core.canvas.canvas import Canvas
from tessera.core.checkpoints.taming_yaml import read_yaml
from tessera.core.images.io import open_image
from tessera.core.loading import load, load_vqgan
from tessera.core.storage.door import existing_file


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n",
            "a pointer of Git LFS, not the weights",
        ),
        (b"<!DOCTYPE html><html>", "a web page, not weights"),
        (b"<HTML><head>", "a web page, not weights"),
        (b"GGUF\x03\0\0\0\0\0", "a GGUF file"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\0", "compressed with gzip"),
    ],
)
def test_files_that_stand_in_for_weights_are_named(tmp_path, content, sentence):
    (tmp_path / "a.ckpt").write_bytes(content)
    for door in (load, load_vqgan):
        with pytest.raises(ValueError, match=f"a.ckpt is {sentence}"):
            door(tmp_path / "a.ckpt")


def test_archives_of_other_programs_are_named(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "script.pt")
    np.savez(tmp_path / "a.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match=r"script\.pt can't be used: it is a TorchScript program, not weights"):
        load_vqgan(tmp_path / "script.pt")
    with pytest.raises(ValueError, match=r"a\.npz can't be used: it is an archive of numpy's"):
        load_vqgan(tmp_path / "a.npz")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are of Unix")
def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "a.ckpt")
    with pytest.raises(FileNotFoundError, match=r"a\.ckpt is no file; give the path of a model file"):
        existing_file(tmp_path / "a.ckpt", "a model file")


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_a_picture_whose_text_would_fill_the_memory_is_refused_by_name(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    plain = (tmp_path / "a.png").read_bytes()
    text = chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(100_000_000), 1))
    (tmp_path / "a.png").write_bytes(plain[:33] + text + plain[33:])
    with pytest.raises(ValueError, match=r"a\.png can't be read as a picture \(.*too large"):
        open_image(tmp_path / "a.png")


@pytest.mark.parametrize("params", ["[1, 2]", "text", "null"])
def test_a_yaml_whose_params_are_none_describes_no_model(tmp_path: Path, params: str):
    (tmp_path / "a.yaml").write_text(f"model: {{target: taming.models.vqgan.VQModel, params: {params}}}")
    with pytest.raises(ValueError, match=r"a\.yaml describes no model"):
        read_yaml(tmp_path / "a.yaml")


CODES, KNOWN = torch.zeros(1, 4, 4, dtype=torch.int64), torch.ones(1, 4, 4, dtype=torch.bool)


@pytest.mark.parametrize(
    ("indices", "known"),
    [(CODES.float(), KNOWN), (CODES.bool(), KNOWN), (CODES.int(), KNOWN), (CODES, KNOWN.float()), (CODES, CODES)],
)
def test_a_canvas_holds_whole_numbers_and_yes_or_no(indices, known):
    with pytest.raises(ValueError, match="a canvas needs indices of int64 and known of bool, got"):
        Canvas(indices, known)


def test_a_canvas_that_no_memory_holds_is_refused():
    with pytest.raises(ValueError, match="a canvas of 1 x 1000000 x 1000000 cells is too large"):
        Canvas.empty(1, 10**6, 10**6)
