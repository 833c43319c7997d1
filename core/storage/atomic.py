"""Files that are there whole or not at all."""

import glob
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

STALE = 3600  # seconds since a temporary file was last written to, after which nobody is writing it any more


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A temporary path to write to: it takes the place of `path` at the end, or vanishes if writing fails.

    It has the suffix of `path`, since some libraries choose the format by it, lies beside it, and no other writer has
    the same. Its contents are on the disk before it takes the place. A link is followed.

    Raises:
        OSError: the system refuses; also where torch or safetensors say so by errors of their own.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(path)
    partial = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        partial.touch()
        rights = partial.stat().st_mode
        partial.unlink()
        yield partial
        partial.chmod(rights)  # safetensors writes files that only their owner may read
        flush(partial)
        os.replace(partial, path)
        flush(path.parent)
    except (RuntimeError, SafetensorError) as error:
        if is_refusal(error):
            raise OSError(f"{path} can't be written ({error})") from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def is_refusal(error: Exception) -> bool:
    """True for what torch and safetensors raise where writing fails, on a full disk for instance."""
    return "I/O error" in str(error) if isinstance(error, SafetensorError) else "inline_container" in str(error)


def flush(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk now; not every system can for folders."""
    try:
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except PermissionError:  # a folder on Windows
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_stale(path: Path) -> None:
    """Remove what writers of `path` left that were killed."""
    pattern = f".{glob.escape(path.stem)}.*partial{glob.escape(path.suffix)}"
    for left in path.parent.glob(pattern):
        try:
            if time.time() - left.stat().st_mtime > STALE:
                left.unlink()
        except OSError:  # gone meanwhile, or not ours to remove
            continue
