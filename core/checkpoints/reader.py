"""Tensors out of other programs' files: torch checkpoints (zip and the older stream) and safetensors.

A checkpoint is read as data: nothing in it is imported or called. Its tensors are found by name first and
read from the file only when asked for, each once, so memory holds what is used and no more.

    checkpoint = open_checkpoint(path)
    checkpoint.shapes           # of every tensor below "state_dict", or at the top, by name
    checkpoint.read(name)       # a Tensor
    checkpoint.other_entries          # what else the file holds, by name
"""

from __future__ import annotations

import json
import math
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..storage.door import brief, check_numbers, existing_file
from ..storage.header import check_header
from .torch_format import OtherKind, TensorLocation, locate_tensors, read_tensor, stream_contents, zip_contents
from .wrapping import unwrapped

SAFETENSORS_TYPES = {
    "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


MAX_TENSORS = 20_000


MAX_NAME_LENGTH = 300  # characters


BROKEN = (
    ValueError, TypeError, KeyError, IndexError, OverflowError, EOFError, OSError, RuntimeError,
    struct.error, zipfile.BadZipFile, SafetensorError,
)  # fmt: skip


Read = Callable[[str, torch.dtype | None], Tensor]  # a name in the file, and what to convert to -> the tensor


class Checkpoint:
    """A file's tensors by name, read when asked for.

    shapes: of the tensors, by name.
    other_entries: names of what else it holds, such as "optimizer_states".
    places: where they lie and of which type they are, by name.
    lightning: the version of Lightning that wrote it; empty where none says so.
    """

    def __init__(
        self,
        path: Path,
        places: dict[str, TensorLocation],
        other_entries: list[str],
        lightning: str = "",
        read: Read | None = None,
    ):
        stored = unwrapped(list(places))
        if len(stored) < len(places):
            other_entries = [*other_entries, f"{len(places) - len(stored)} tensors beside the model's"]
        shapes = {name: places[theirs].shape for name, theirs in stored.items()}
        if len(shapes) > MAX_TENSORS:
            raise ValueError(f"it holds {len(shapes)} tensors, more than the {MAX_TENSORS} of any model known here")
        for name in shapes:
            if len(name) > MAX_NAME_LENGTH or not name.isprintable():
                raise ValueError(f"it has a tensor named {name[:40]!r}..., which no program writes")
        check_numbers(max((math.prod(shape) for shape in shapes.values()), default=0), "a tensor")
        self.path, self.shapes, self.other_entries, self.lightning = path, shapes, other_entries, lightning
        self.places = {name: places[theirs] for name, theirs in stored.items()}
        self._read = read or (lambda theirs, dtype: read_tensor(path, places[theirs], dtype))
        self._stored = stored

    def read(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        """One tensor, as stored or as `dtype`; ValueError if the file has become shorter."""
        return self._read(self._stored[name], dtype)

    def read_float32(self, name: str) -> Tensor:
        """One tensor in float32; whole numbers as they are. ValueError as `read`."""
        return self.read(name, torch.float32 if self.places[name].dtype.is_floating_point else None)


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Look into a `.ckpt`, `.pt`, `.pth`, `.bin` or `.safetensors` file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, broken, hostile, or of another kind; one sentence that names the file.
    """
    path = existing_file(path, "a checkpoint file")
    try:
        with path.open("rb") as file:
            start = file.read(9)
        if start[:2] == b"PK":
            return open_torch(path, zip_contents)
        if start[:1] == b"\x80":
            return open_torch(path, stream_contents)
        if start[8:] == b"{":
            return open_safetensors(path)
    except OtherKind as error:
        raise ValueError(f"{path.name} can't be used: {error}") from error
    except BROKEN as error:
        raise ValueError(f"{path.name} can't be read: {brief(error, 250)}; fetch it again") from error
    raise ValueError(f"{path.name} is {what_else(start)}")


OTHERS = {
    b"version ": "a pointer of Git LFS, not the weights themselves; fetch them with git lfs pull, or from their page",
    b"<!doctyp": "a web page, not weights; open their address in a browser and save the file behind it",
    b"<html": "a web page, not weights; open their address in a browser and save the file behind it",
    b"gguf": "a GGUF file, as llama.cpp reads; choose a torch checkpoint or safetensors",
    b"\x1f\x8b": "compressed with gzip; unpack it first",
}  # beginnings in lower case


def what_else(start: bytes) -> str:
    """What a file is that begins so, and what to do about it."""
    if not start:
        return "empty; fetch it again"
    maps, texts = (*range(0x81, 0x90), 0xDE, 0xDF), (*range(0xA1, 0xC0), 0xD9, 0xDA)
    if start[0] in maps and any(byte in texts for byte in start[1:4]):  # a map whose first key is a text, in msgpack
        return "a msgpack file, as flax writes weights; load it by flax and save it as torch's or safetensors"
    if start[:4] == b"\x89HDF":
        return "an HDF5 file, as Keras writes weights; choose a torch checkpoint or safetensors"
    for begins, what in OTHERS.items():
        if start.lower().startswith(begins):
            return what
    return "neither a torch checkpoint nor safetensors; choose another file"


def open_torch(path: Path, contents: Callable) -> Checkpoint:
    """`contents` is the function of `torch_file` for this format."""
    data, locate = contents(path)
    places, other_entries = locate_tensors(data, locate, path.stat().st_size)
    version = data.get("pytorch-lightning_version") if isinstance(data, dict) else None
    return Checkpoint(path, places, other_entries, version[:20] if isinstance(version, str) else "")


def open_safetensors(path: Path) -> Checkpoint:
    """The library checks offsets and sizes against each other and the file. The numbers are read here, since its
    tensors keep the whole file in memory as long as one of them is in use."""
    check_header(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    places = {
        name: place_of(entry, 8 + length)
        for name, entry in header.items()
        if name != "__metadata__" and entry["dtype"] in SAFETENSORS_TYPES
    }
    size = path.stat().st_size
    if any(place.offset + place.bytes > size for place in places.values()):  # said twice, differently
        raise ValueError("its header claims more than the file holds")
    other_entries = [f"metadata {key[:80]!r}" for key in metadata]
    other_entries += [name[:80] for name in header if name not in places and name != "__metadata__"]
    return Checkpoint(path, places, other_entries)


def place_of(entry: dict, start: int) -> TensorLocation:
    """Where a tensor of a safetensors file lies whose numbers begin at `start`."""
    shape = tuple(entry["shape"])
    stride = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
    return TensorLocation(start + entry["data_offsets"][0], SAFETENSORS_TYPES[entry["dtype"]], 0, shape, stride)
