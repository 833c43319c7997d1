"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A temporary path to write to: it takes the place of `path` at the end, or vanishes if writing fails.

    It has the suffix of `path`, since some libraries choose the format by it, and lies beside it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        partial.touch()
        rights = partial.stat().st_mode
        partial.unlink()
        yield partial
        partial.chmod(rights)  # safetensors writes files that only their owner may read
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
