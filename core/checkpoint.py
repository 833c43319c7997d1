"""Tensors out of other programs' files: torch checkpoints (zip and the older stream) and safetensors.

A checkpoint is read as data (`pickle_data`): nothing in it is imported or called. Its tensors are found by
name first and read from the file only when asked for, each once, so memory holds what is used and no more.

    checkpoint = open_checkpoint(path)
    checkpoint.shapes           # of every tensor below "state_dict", or at the top, by name
    checkpoint.read(name)       # a Tensor
    checkpoint.besides          # what else the file holds, by name
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .pickle_data import Call, Global, Persistent, read_pickle

LARGEST_PICKLE = 256 * 2**20  # bytes of a checkpoint's structure, without its tensors
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # first number of torch's older format
REBUILD = {
    Global("torch._utils", "_rebuild_tensor"),
    Global("torch._utils", "_rebuild_tensor_v2"),
    Global("torch._tensor", "_rebuild_tensor_v2"),
}
PARAMETER = Global("torch._utils", "_rebuild_parameter")
STORAGE_TYPES = {
    "FloatStorage": torch.float32, "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
STATE_KEYS = ("state_dict", "model_state_dict", "model")  # where programs put the weights


class Place(NamedTuple):
    """Where a tensor's numbers lie."""

    offset: int  # in the file, bytes
    dtype: torch.dtype
    first: int  # element of the storage
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class Checkpoint:
    """A file's tensors by name, read when asked for.

    besides: names of what else it holds, such as "optimizer_states".
    """

    def __init__(
        self, path: Path, shapes: dict[str, tuple[int, ...]], read: Callable[[str], Tensor], besides: list[str]
    ):
        self.path, self.shapes, self.read, self.besides = path, shapes, read, besides


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
            return open_zip(path)
        if start[:1] == b"\x80":
            return open_stream(path)
        if start[8:] == b"{":
            return open_safetensors(path)
    except (ValueError, SafetensorError, zipfile.BadZipFile, struct.error, OSError, NotImplementedError) as error:
        raise ValueError(f"{path.name} can't be read: {' '.join(str(error).split())}; fetch it again") from error
    raise ValueError(f"{path.name} is neither a torch checkpoint nor safetensors; choose another file")


def open_safetensors(path: Path) -> Checkpoint:
    """The library checks header, offsets and sizes."""
    with safe_open(path, framework="pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        besides = list(file.metadata() or {})

    def read(name: str) -> Tensor:
        with safe_open(path, framework="pt") as file:
            return file.get_tensor(name)

    return Checkpoint(path, shapes, read, besides)


def open_zip(path: Path) -> Checkpoint:
    """torch's format since 1.6: an uncompressed zip with `data.pkl` and one entry for each storage."""
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        entries = {}
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise ValueError(f"entry {entry.filename[:80]!r} is compressed, which torch never does")
            if entry.header_offset + entry.file_size > size:
                raise ValueError(f"entry {entry.filename[:80]!r} claims {entry.file_size} bytes beyond the file's end")
            entries[entry.filename] = entry
        pickles = [name for name in entries if name.endswith("data.pkl") and name.count("/") <= 1]
        if len(pickles) != 1:
            raise ValueError("it holds no data.pkl, so it is not a torch checkpoint")
        structure = entries[pickles[0]]
        if structure.file_size > LARGEST_PICKLE:
            raise ValueError(f"its structure alone claims {structure.file_size} bytes")
        with archive.open(structure) as file:
            data = read_pickle(file)
        prefix = pickles[0].removesuffix("data.pkl")
        if f"{prefix}byteorder" in entries and archive.read(f"{prefix}byteorder") != b"little":
            raise ValueError("it was written on a big-endian machine")

    def locate(key: str) -> tuple[int, int]:
        entry = entries.get(f"{prefix}data/{key}")
        if entry is None:
            raise ValueError(f"storage {key[:40]!r} is missing")
        with path.open("rb") as file:
            file.seek(entry.header_offset)
            header = file.read(30)
        if header[:4] != b"PK\x03\x04":
            raise ValueError(f"storage {key[:40]!r} has no header")
        name_length, extra_length = struct.unpack("<HH", header[26:30])
        return entry.header_offset + 30 + name_length + extra_length, entry.file_size

    return from_data(path, data, locate)


def open_stream(path: Path) -> Checkpoint:
    """torch's older format: four pickles, the storages' keys, then each storage with its length before it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if read_pickle(file) != LEGACY_MAGIC:
            raise ValueError("it is a bare pickle, not a torch checkpoint")
        read_pickle(file)  # protocol version
        system = read_pickle(file)
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise ValueError("it was written on a big-endian machine")
        data = read_pickle(file)
        keys = read_pickle(file)
        widths = {str(s.identity[2]): item_size(s) for s in storages(data)}
        places = {}
        for key in keys if isinstance(keys, list) else []:
            if str(key) not in widths:
                raise ValueError(f"storage {str(key)[:40]!r} belongs to no tensor")
            (number,) = struct.unpack("<q", file.read(8))
            start, length = file.tell(), number * widths[str(key)]
            if number < 0 or start + length > size:
                raise ValueError(f"storage {str(key)[:40]!r} claims {number} numbers beyond the file's end")
            places[str(key)] = (start, length)
            file.seek(length, os.SEEK_CUR)

    def locate(key: str) -> tuple[int, int]:
        if key not in places:
            raise ValueError(f"storage {key[:40]!r} is missing")
        return places[key]

    return from_data(path, data, locate)


def from_data(path: Path, data: Any, locate: Callable[[str], tuple[int, int]]) -> Checkpoint:
    """The tensors that a checkpoint's structure names; `locate` gives a storage's offset and bytes."""
    if not isinstance(data, dict):
        raise ValueError(f"it holds a {type(data).__name__}, not a dictionary of tensors")
    key = next((k for k in STATE_KEYS if isinstance(data.get(k), dict)), None)
    state = data if key is None else data[key]
    places = {n: p for n, v in state.items() if isinstance(n, str) and (p := find(v, locate)) is not None}
    besides = [str(k)[:80] for k in data if k != key and k not in places]
    shapes = {name: place.shape for name, place in places.items()}
    return Checkpoint(path, shapes, lambda name: read_place(path, places[name]), besides)


def find(value: Any, locate: Callable[[str], tuple[int, int]]) -> Place | None:
    """Where the tensor lies that `value` describes; None if it describes something else.

    Raises:
        ValueError: it reaches beyond its storage, or its storage beyond the file.
    """
    if isinstance(value, Call) and value.function == PARAMETER and isinstance(value.arguments, tuple):
        value = value.arguments[0]
    if not isinstance(value, Call) or value.function not in REBUILD:
        return None
    storage, first, shape, stride = (*value.arguments, None, None, None, None)[:4]
    if not is_storage(storage):
        raise ValueError("a tensor has no storage")
    whole = [first, *shape, *stride] if isinstance(shape, tuple) and isinstance(stride, tuple) else [None]
    if any(type(n) is not int or n < 0 for n in whole) or len(shape) != len(stride) or len(shape) > 16:
        raise ValueError(f"a tensor has shape {str(shape)[:60]} and stride {str(stride)[:60]}")
    offset, length = locate(str(storage.identity[2]))
    width = item_size(storage)
    last = first + sum((n - 1) * s for n, s in zip(shape, stride, strict=True)) if all(shape) else first - 1
    if (last + 1) * width > length:
        raise ValueError(f"a tensor of shape {shape} claims {(last + 1) * width} bytes of a storage of {length}")
    if product(shape) > last + 1:  # numbers used several times over: a small file that fills the memory
        raise ValueError(f"a tensor of shape {shape} repeats the {length} bytes of its storage")
    return Place(offset, STORAGE_TYPES[storage.identity[1].name], first, shape, stride)


def is_storage(value: Any) -> bool:
    """True for torch's reference ("storage", type, key, device, number)."""
    if not isinstance(value, Persistent) or not isinstance(value.identity, tuple) or len(value.identity) < 5:
        return False
    kind = value.identity[1]
    return value.identity[0] == "storage" and isinstance(kind, Global) and kind.name in STORAGE_TYPES


def item_size(storage: Persistent) -> int:
    """Bytes of one number."""
    return STORAGE_TYPES[storage.identity[1].name].itemsize


def storages(data: Any) -> list[Persistent]:
    """Every storage anywhere in a checkpoint's structure."""
    found, waiting, seen = [], [data], set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if is_storage(value):
            found.append(value)
        elif isinstance(value, Call):
            waiting += [value.arguments, value.state, value.items]
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
    return found


def product(shape: tuple[int, ...]) -> int:
    """How many numbers a tensor of this shape has."""
    number = 1
    for side in shape:
        number *= side
    return number


def read_place(path: Path, place: Place) -> Tensor:
    """Read one tensor, contiguous."""
    if not product(place.shape):
        return torch.empty(place.shape, dtype=place.dtype)
    reach = 1 + sum((n - 1) * s for n, s in zip(place.shape, place.stride, strict=True))
    raw = torch.empty(reach * place.dtype.itemsize, dtype=torch.uint8)
    with path.open("rb") as file:
        file.seek(place.offset + place.first * place.dtype.itemsize)
        if file.readinto(raw.numpy()) != len(raw):
            raise ValueError(f"{path.name} ends in the middle of a tensor; fetch it again")
    return raw.view(place.dtype).as_strided(place.shape, place.stride).contiguous()
