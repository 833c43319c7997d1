"""A file of codes that any number of processes fill part by part: what is stopped goes on with the missing parts."""

import json
import math
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ...core.storage.atomic import atomic_write, flush

TYPES = {"U16": np.uint16, "I32": np.int32}


class CodeFile:
    """A safetensors file at `path` of tensors whose second dimension is that of pictures. Until `finish` it has another
    name, and a folder beside it holds a note of every part that is on the disk.

    Args:
        shapes: of the tensors, such as [views, N, n].
        codes: how many codes there are; two bytes each where that is enough.
        metadata: of the finished file.
    """

    def __init__(self, path: Path, shapes: dict[str, tuple[int, int, int]], codes: int, metadata: dict[str, str]):
        self.path, self.shapes = path, shapes
        self.kind = "U16" if codes <= 2**16 else "I32"
        self.unfinished, self.notes = path.with_name(f".{path.stem}.unfinished"), path.with_name(f".{path.stem}.parts")
        self.header = self.make_header(metadata)

    def make_header(self, metadata: dict[str, str]) -> bytes:
        """The beginning of the file: https://github.com/huggingface/safetensors#format."""
        tree, at = {"__metadata__": metadata}, 0
        for name, shape in self.shapes.items():
            size = math.prod(shape) * TYPES[self.kind]().itemsize
            tree[name] = {"dtype": self.kind, "shape": list(shape), "data_offsets": [at, at + size]}
            at += size
        self.size = at
        text = json.dumps(tree).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    def create(self) -> None:
        """Make the unfinished file, unless it is there; by one process.

        Raises:
            OSError: there is no room for it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.unfinished.is_file() and self.notes.is_dir():
            return
        shutil.rmtree(self.notes, ignore_errors=True)
        with self.unfinished.open("wb") as file:
            file.write(self.header)
            try:
                os.posix_fallocate(file.fileno(), 0, len(self.header) + self.size)
            except AttributeError:  # not on this system
                file.truncate(len(self.header) + self.size)
        self.notes.mkdir()

    def missing(self, parts: Iterable[range]) -> list[range]:
        """Those parts that are not on the disk."""
        return [part for part in parts if not (self.notes / name_of(part)).exists()]

    def write(self, part: range, tensors: dict[str, np.ndarray]) -> None:
        """Write the codes of some pictures, [views, len(part), n] each, and note that they are there."""
        at = len(self.header)
        for name, shape in self.shapes.items():
            if tensors[name].size and tensors[name].max() > np.iinfo(TYPES[self.kind]).max:
                raise ValueError(f"{name} holds {tensors[name].max()}, too large a number for its file")
            if math.prod(shape):
                whole = np.memmap(self.unfinished, TYPES[self.kind], "r+", offset=at, shape=shape)
                whole[:, part.start : part.stop] = tensors[name]
                whole.flush()
                del whole
            at += math.prod(shape) * TYPES[self.kind]().itemsize
        with atomic_write(self.notes / name_of(part)) as partial:
            partial.touch()

    def finish(self) -> None:
        """Give the file its name when all parts are there; by one process."""
        flush(self.unfinished)
        shutil.rmtree(self.notes)  # first: without them, what has no name yet is begun anew
        os.replace(self.unfinished, self.path)


def name_of(part: range) -> str:
    """The name of a part's note."""
    return f"{part.start}-{part.stop}"
