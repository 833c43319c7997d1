"""Where the tensors lie in a torch checkpoint: its zip format, and the older stream of pickles.

The structure is read as data (`pickle_data`); the numbers are left in the file until asked for. Whatever the
file claims is checked against its true size before anything is read.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from ..storage.header import MAX_STRUCTURE_BYTES
from .safe_pickle import Call, Global, Persistent, read_pickle

MAX_NUMBER = 2**48  # of a shape, stride or offset
PIECE = 2**16  # numbers that are converted at a time; large ones would leave holes between the tensors in memory


LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # first number of torch's older format


STATE_KEYS = (
    "state_dict", "model_state_dict", "params_ema", "ema", "model_ema", "ema_state_dict", "generator_ema", "model",
    "module", "params", "generator", "net", "weights",
)  # where programs put the weights; the averaged ones before the others  # fmt: skip


REBUILD = {
    Global("torch._utils", "_rebuild_tensor"),
    Global("torch._utils", "_rebuild_tensor_v2"),
    Global("torch._tensor", "_rebuild_tensor_v2"),
}


PARAMETERS = {Global("torch._utils", "_rebuild_parameter"), Global("torch._utils", "_rebuild_parameter_with_state")}


FROM_TYPE = {Global("torch._tensor", "_rebuild_from_type_v2")}  # of (function, class, arguments, state)
STORAGE_TYPES = {
    "FloatStorage": torch.float32, "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip


class OtherKind(ValueError):
    """A file that is whole, but no checkpoint of tensors by name; what to do instead is in its words."""


Locate = Callable[[str], tuple[int, int]]  # a storage's key -> its offset in the file and its length, bytes


class TensorLocation(NamedTuple):
    """Where a tensor's numbers lie."""

    offset: int  # of the storage in the file, bytes
    dtype: torch.dtype
    first: int  # element of the storage
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """What the tensor takes."""
        return math.prod(self.shape) * self.dtype.itemsize


class BoundedReader:
    """A file that reads no more at once than a structure needs, since a length in a zip file may lie."""

    def __init__(self, file: BinaryIO):
        self.file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        """As of a file; ValueError where that would be too much."""
        data = self.file.read(min(size, MAX_STRUCTURE_BYTES) if size >= 0 else MAX_STRUCTURE_BYTES)
        if size > MAX_STRUCTURE_BYTES or (size < 0 and len(data) == MAX_STRUCTURE_BYTES):
            raise ValueError(f"its structure alone claims {size if size >= 0 else len(data)} bytes or more")
        return data


def refuse_other_archives(names: list[str]) -> None:
    """Raise OtherKind for zip files of programs that keep something else in them."""
    if any("/code/" in name for name in names):
        raise OtherKind("it is a TorchScript program, not weights; choose the checkpoint that it was made from")
    if names and all(name.endswith(".npy") for name in names):
        raise OtherKind("it is an archive of numpy's; choose a torch checkpoint or safetensors")


def zip_contents(path: Path) -> tuple[Any, Locate]:
    """torch's format since 1.6: an uncompressed zip with `data.pkl` and one entry for each storage."""
    size = path.stat().st_size
    entries: dict[str, zipfile.ZipInfo] = {}
    with path.open("rb") as file, zipfile.ZipFile(BoundedReader(file)) as archive:
        refuse_other_archives(archive.namelist())
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise ValueError(f"entry {entry.filename[:80]!r} is compressed, which torch never does")
            entries[entry.filename] = entry
        pickles = [name for name in entries if name.endswith("data.pkl") and name.count("/") <= 1]
        if len(pickles) != 1:
            raise ValueError("it holds no data.pkl, so it is not a torch checkpoint")
        data = read_pickle(io.BytesIO(archive.read(pickles[0])))
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
        start = entry.header_offset + 30 + name_length + extra_length
        if start + entry.file_size > size:
            raise ValueError(f"storage {key[:40]!r} claims {entry.file_size} bytes beyond the file's end")
        return start, entry.file_size

    return data, locate


def stream_contents(path: Path) -> tuple[Any, Locate]:
    """torch's older format: four pickles, the storages' keys, then each storage with its length before it."""
    size = path.stat().st_size
    places: dict[str, tuple[int, int]] = {}
    with path.open("rb") as file:
        head = io.BytesIO(file.read(MAX_STRUCTURE_BYTES))
        if read_pickle(head) != LEGACY_MAGIC:
            raise ValueError("it is a bare pickle, not a torch checkpoint")
        read_pickle(head)  # protocol version
        system = read_pickle(head)
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise ValueError("it was written on a big-endian machine")
        data = read_pickle(head)
        keys = read_pickle(head)
        widths = {s.identity[2]: item_size(s) for s in storages(data)}
        file.seek(head.tell())
        for key in keys if isinstance(keys, list) else []:
            if not isinstance(key, str) or key not in widths:
                raise ValueError("it has a storage that belongs to no tensor")
            (number,) = struct.unpack("<q", file.read(8))
            start, length = file.tell(), number * widths[key]
            if number < 0 or start + length > size:
                raise ValueError(f"storage {key[:40]!r} claims {number} numbers, more than the file has left")
            places[key] = (start, length)
            file.seek(length, os.SEEK_CUR)

    def locate(key: str) -> tuple[int, int]:
        if key not in places:
            raise ValueError(f"storage {key[:40]!r} is missing")
        return places[key]

    return data, locate


def locate_tensors(data: Any, locate: Locate, size: int) -> tuple[dict[str, TensorLocation], list[str]]:
    """The tensors that a checkpoint's structure names, and the names of what else it holds.

    Raises:
        ValueError: no dictionary, or tensors that the file of `size` bytes can't hold.
    """
    if is_module(data, "dall_e."):
        data = module_entries(data)
    refuse_object(data)
    if not isinstance(data, dict):
        raise ValueError(f"it holds a {type(data).__name__}, not tensors by name")
    key = next((k for k in STATE_KEYS if isinstance(data.get(k), dict)), None)
    state = data if key is None else data[key]
    if key is not None and (inner := next((k for k in STATE_KEYS if isinstance(state.get(k), dict)), None)):
        state = state[inner]  # a state in a state, as some trainers write it
    places = {n: p for n, v in state.items() if isinstance(n, str) and (p := _locate_tensor(v, locate)) is not None}
    if not places:
        for value in state.values():
            refuse_object(value)
    claimed = sum(place.bytes for place in places.values())
    if claimed > 2 * size:  # twice: a transformer's condition may be made by its first stage, stored once
        raise ValueError(f"its tensors claim {claimed} bytes, the file has {size}")
    return places, [str(k)[:80] for k in data if k != key and k not in places]


def is_module(value: Any, package: str = "") -> bool:
    """True for a module pickled as a whole, of a class of this package."""
    if not isinstance(value, Call) or not isinstance(value.state, dict) or "_modules" not in value.state:
        return False
    named = [value.function, *(value.arguments if isinstance(value.arguments, tuple) else ())]
    return any(isinstance(one, Global) and f"{one.module}.".startswith(package) for one in named)


def module_entries(module: Call) -> dict[str, Any]:
    """The parameters of a module pickled as a whole, by the names that its state dict would have."""
    found, waiting, seen = {}, [("", module)], set()
    while waiting:
        prefix, value = waiting.pop()
        if not is_module(value) or id(value) in seen:
            continue
        seen.add(id(value))
        for part in ("_parameters", "_buffers"):
            entries = value.state.get(part)
            found |= {f"{prefix}{name}": entry for name, entry in (entries or {}).items()}
        waiting += [(f"{prefix}{name}.", child) for name, child in value.state["_modules"].items()]
    return found


def refuse_object(value: Any) -> None:
    """ValueError for an object of a program instead of its tensors: a module that was pickled as a whole, mostly."""
    if not isinstance(value, Call) or not isinstance(value.function, Global) or is_call(value, REBUILD | PARAMETERS):
        return
    name = ".".join(value.function)[:80]
    if name.startswith("copyreg.") and isinstance(value.arguments, tuple) and value.arguments:
        name = ".".join(value.arguments[0])[:80] if isinstance(value.arguments[0], Global) else name
    if isinstance(value.state, dict) and "_modules" in value.state:
        raise OtherKind(
            f"it is a whole module ({name!r}), pickled with the name of its code, which is never run here; where it "
            "was made, save its weights alone: torch.save(module.state_dict(), file)"
        )
    raise OtherKind(f"it holds a program's object ({name!r}), not tensors by name; choose another file")


def _locate_tensor(value: Any, locate: Locate) -> TensorLocation | None:
    """Where the tensor lies that `value` describes; None if it describes something else.

    Raises:
        ValueError: it reaches beyond its storage, or its storage beyond the file.
    """
    if is_call(value, FROM_TYPE) and len(value.arguments) == 4:
        value = Call(value.arguments[0], value.arguments[2])
    if is_call(value, PARAMETERS):
        value = value.arguments[0]
    if not is_call(value, REBUILD):
        return None
    parts: list[Any] = [*value.arguments, None, None, None]
    storage, first, shape, stride = parts[:4]
    if not is_storage(storage):
        raise ValueError("a tensor has no storage")
    numbers = [first, *shape, *stride] if isinstance(shape, tuple) and isinstance(stride, tuple) else [None]
    if any(type(n) is not int or not 0 <= n < MAX_NUMBER for n in numbers) or len(shape) != len(stride):
        raise ValueError("a tensor's shape is not made of whole numbers")
    if len(shape) > 8:
        raise ValueError(f"a tensor has {len(shape)} dimensions")
    if len(storage.identity) > 5 and storage.identity[5] is not None:
        raise ValueError("it shares storages in a way that torch gave up in 2018")
    offset, length = locate(storage.identity[2])
    width, declared = item_size(storage), storage.identity[4]
    if type(declared) is not int or declared * width > length:
        raise ValueError(f"storage {storage.identity[2][:40]!r} declares more numbers than its {length} bytes hold")
    last = first + sum((n - 1) * s for n, s in zip(shape, stride, strict=True)) if all(shape) else first - 1
    if (last + 1) * width > length:
        raise ValueError(f"a tensor of shape {shape} claims {(last + 1) * width} bytes of a storage of {length}")
    if math.prod(shape) > last + 1:  # numbers used several times over: a small file that fills the memory
        raise ValueError(f"a tensor of shape {shape} repeats the {length} bytes of its storage")
    return TensorLocation(offset, STORAGE_TYPES[storage.identity[1].name], first, shape, stride)


def is_call(value: Any, functions: set[Global]) -> bool:
    """True for the record of a call of one of `functions` with at least one argument."""
    if not isinstance(value, Call) or not isinstance(value.function, Global) or value.function not in functions:
        return False
    return isinstance(value.arguments, tuple) and len(value.arguments) > 0


def is_storage(value: Any) -> bool:
    """True for torch's reference ("storage", type, key, device, number)."""
    if not isinstance(value, Persistent) or not isinstance(value.identity, tuple) or len(value.identity) < 5:
        return False
    word, kind, key = value.identity[:3]
    known = isinstance(kind, Global) and kind.module == "torch" and kind.name in STORAGE_TYPES
    return word == "storage" and known and isinstance(key, str)


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


def read_tensor(path: Path, place: TensorLocation, dtype: torch.dtype | None = None) -> Tensor:
    """Read one tensor, contiguous, with memory of its own.

    Args:
        dtype: of the result; None is as it is stored. Numbers are converted as they arrive, so that memory never holds
            the tensor twice.
    """
    dtype = dtype or place.dtype
    if not place.bytes:
        return torch.empty(place.shape, dtype=dtype)
    reach = 1 + sum((n - 1) * s for n, s in zip(place.shape, place.stride, strict=True))
    made = torch.empty(reach, dtype=dtype)
    piece = made if dtype == place.dtype else torch.empty(min(reach, PIECE), dtype=place.dtype)
    with path.open("rb") as file:
        file.seek(place.offset + place.first * place.dtype.itemsize)
        for start in range(0, reach, len(piece)):
            part = piece[: reach - start]
            raw = part.view(torch.uint8).numpy().data
            if file.readinto(raw) != len(raw):
                raise ValueError(f"{path.name} ends in the middle of a tensor; fetch it again")
            if part.dtype != dtype:
                made[start : start + len(part)] = part
    return made.as_strided(place.shape, place.stride).contiguous()
