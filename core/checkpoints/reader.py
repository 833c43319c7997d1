"""Tensors out of other programs' files: torch checkpoints (zip and the older stream) and safetensors.

A checkpoint is read as data: nothing in it is imported or called. Its tensors are found by name first and
read from the file only when asked for, each once, so memory holds what is used and no more.

    checkpoint = open_checkpoint(path)
    checkpoint.shapes           # of every tensor below "state_dict", or at the top, by name
    checkpoint.read(name)       # a Tensor
    checkpoint.besides          # what else the file holds, by name
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

from ..storage.header import check_header
from .torch_format import TensorLocation, locate_tensors, read_tensor, stream_contents, zip_contents

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


class Checkpoint:
    """A file's tensors by name, read when asked for.

    shapes: of the tensors, by name.
    read: gives one tensor as stored; ValueError if the file has become shorter.
    besides: names of what else it holds, such as "optimizer_states".
    """

    def __init__(
        self, path: Path, shapes: dict[str, tuple[int, ...]], read: Callable[[str], Tensor], other_entries: list[str]
    ):
        if len(shapes) > MAX_TENSORS:
            raise ValueError(f"it holds {len(shapes)} tensors, more than the {MAX_TENSORS} of any model known here")
        for name in shapes:
            if len(name) > MAX_NAME_LENGTH or not name.isprintable():
                raise ValueError(f"it has a tensor named {name[:40]!r}..., which no program writes")
        self.path, self.shapes, self.read, self.other_entries = path, shapes, read, other_entries


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Look into a `.ckpt`, `.pt`, `.pth`, `.bin` or `.safetensors` file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, broken, hostile, or of another kind; one sentence that names the file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give the path of a checkpoint file")
    try:
        with path.open("rb") as file:
            start = file.read(9)
        if start[:2] == b"PK":
            return open_torch(path, zip_contents)
        if start[:1] == b"\x80":
            return open_torch(path, stream_contents)
        if start[8:] == b"{":
            return open_safetensors(path)
    except BROKEN as error:
        problem = " ".join(str(error).split())[:200]
        raise ValueError(f"{path.name} can't be read: {problem}; fetch it again") from error
    raise ValueError(
        f"{path.name} is {'neither a torch checkpoint nor safetensors' if start else 'empty'}; choose another file"
    )


def open_torch(path: Path, contents: Callable) -> Checkpoint:
    """`contents` is the function of `torch_file` for this format."""
    places, other_entries = locate_tensors(*contents(path), path.stat().st_size)
    shapes = {name: place.shape for name, place in places.items()}
    return Checkpoint(path, shapes, lambda name: read_tensor(path, places[name]), other_entries)


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
    shapes = {name: place.shape for name, place in places.items()}
    return Checkpoint(path, shapes, lambda name: read_tensor(path, places[name]), other_entries)


def place_of(entry: dict, start: int) -> TensorLocation:
    """Where a tensor of a safetensors file lies whose numbers begin at `start`."""
    shape = tuple(entry["shape"])
    stride = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
    return TensorLocation(start + entry["data_offsets"][0], SAFETENSORS_TYPES[entry["dtype"]], 0, shape, stride)
