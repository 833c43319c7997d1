"""Files with bytes changed, lost or added: every reader gives something or says in one sentence what is wrong.

A few dozen cases here; `python -m pytest tests/test_fuzzing.py --hypothesis-profile nightly` tries 10,000 a reader.
"""

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tessera.core.autoencoders.vqgan import VQGAN, VQGANConfig
from tessera.core.autoencoders.vqgan_file import save_vqgan
from tessera.core.canvas.canvas import Canvas
from tessera.core.canvas.canvas_file import load_canvas, save_canvas
from tessera.core.checkpoints.reader import open_checkpoint
from tessera.core.images.io import open_image, unpack_image
from tessera.core.inspection import inspect_model
from tessera.core.loading import load_vqgan
from tessera.core.provenance import KEY, read_note, write_note
from tessera.training.config.runs import VQGANRun
from tessera.training.config.yaml import load_config
from tessera.training.data.index import PictureIndex
from tessera.training.shards.manifest import Shard, read_manifest, write_manifest
from tessera.training.shards.reading import is_readable, records

TINY = VQGANConfig(
    channels=32, channel_mult=(1,), blocks_per_level=1, attention_levels=(), latent_channels=8, codebook_size=8,
    code_dim=4,
)  # fmt: skip


def make_model(path: Path) -> None:
    save_vqgan(path, VQGAN(TINY))


def make_checkpoint(path: Path) -> None:
    torch.save({"state_dict": {name: tensor.half() for name, tensor in VQGAN(TINY).state_dict().items()}}, path)


def make_canvas(path: Path) -> None:
    save_canvas(path, Canvas.empty(2, 4, 4))


def make_png(path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    note = PngInfo()
    note.add_text(KEY, write_note(Canvas.empty(1, 4, 4), 0, "abc"))
    Image.new("RGB", (16, 16), "red").save(path, pnginfo=note)


def make_jpeg(path: Path) -> None:
    Image.effect_noise((24, 24), 50).convert("RGB").save(path, "JPEG")


def make_manifest(path: Path) -> None:
    write_manifest(path.parent, [Shard(name="a.tar", split="train", items=1, bytes=2, sha256="c", made_from="d")])
    (path.parent / "manifest.json").rename(path)


def make_index(path: Path) -> None:
    path.write_text(json.dumps({"a.png": [1, 2, ""]}))


def make_yaml(path: Path) -> None:
    path.write_text(yaml.safe_dump({"output": "out", "data": {"folder": "in", "size": 32}, "loop": {"steps": 3}}))


def make_tar(path: Path) -> None:
    from webdataset import TarWriter

    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(buffer, "PNG")
    with path.open("wb") as file, TarWriter(file, encoder=False, mtime=0) as tar:
        for key in ("a", "b"):
            tar.write({"__key__": key, "png": buffer.getvalue(), "json": b"{}"})


def read_index(path: Path) -> object:
    path.rename(path.with_name("pictures.json"))
    index = PictureIndex(path.parent)
    return index.knows(path.with_name("pictures.json"))


READERS: dict[str, tuple[str, Callable[[Path], None], Callable[[Path], object]]] = {
    "model": ("m.safetensors", make_model, load_vqgan),
    "inspected": ("i.safetensors", make_model, inspect_model),
    "checkpoint": ("c.ckpt", make_checkpoint, open_checkpoint),
    "canvas": ("c.safetensors", make_canvas, load_canvas),
    "note": ("n.png", make_png, read_note),
    "picture": ("p.jpg", make_jpeg, open_image),
    "bytes of a picture": ("b.png", make_png, lambda path: unpack_image(io.BytesIO(path.read_bytes()), "b")),
    "manifest": ("m.json", make_manifest, lambda path: read_manifest(path.read_bytes(), path.name)),
    "index": ("x.json", make_index, read_index),
    "settings": ("s.yaml", make_yaml, lambda path: load_config(VQGANRun, path, [])),
    "shard": ("s.tar", make_tar, lambda path: [is_readable(record) for record in records(str(path))]),
}

change = st.tuples(st.sampled_from(["byte", "cut", "insert"]), st.floats(0, 1), st.binary(min_size=1, max_size=8))


def changed(content: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    """Bytes after some accidents, most of them near the beginning, where formats say what follows."""
    for kind, where, given_bytes in changes:
        at = int(where**4 * len(content))
        after = {"byte": at + len(given_bytes), "cut": len(content) if where > 0.5 else at + 3, "insert": at}[kind]
        content = content[:at] + (given_bytes if kind != "cut" else b"") + content[after:]
    return content


@pytest.mark.parametrize("name", READERS)
def test_a_reader_never_fails_otherwise_than_in_words(name, tmp_path_factory):
    file, make, read = READERS[name]
    folder = tmp_path_factory.mktemp("fuzz")
    make(folder / file)
    content = (folder / file).read_bytes()
    read(folder / file)

    profile = settings.default.max_examples
    cases = 25 if profile == 100 else profile

    @settings(max_examples=cases, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(change, min_size=1, max_size=4))
    def try_one(changes):
        (folder / file).write_bytes(changed(content, changes))
        with contextlib.suppress(ValueError, OSError):
            read(folder / file)

    try_one()
