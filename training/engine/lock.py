"""One run a folder."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from .distributed import all_reduce, rank_and_world

logger = logging.getLogger("tessera")


@contextmanager
def locked_folder(folder: str | Path) -> Iterator[Path]:
    """The folder of a run, made if need be, which no other run writes to meanwhile.

    Raises:
        ValueError: another run does.
        OSError: it can't be made or written to.
    """
    folder, problem = Path(folder), None
    lock = FileLock(folder / ".lock")
    if rank_and_world()[0] == 0:
        problem = taking(lock, folder)
    if all_reduce(torch.tensor(problem is not None).int()):
        raise problem or ValueError(f"{folder} can't be used; the first process says why")
    try:
        yield folder
    finally:
        lock.release()


def taking(lock: FileLock, folder: Path) -> Exception | None:
    """Take the lock; why not, if it can't be had."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        return ValueError(f"another run is writing to {folder}; wait for it, stop it, or choose another output folder")
    except NotImplementedError:  # some network file systems
        logger.warning("%s can't be locked here; see to it that no other run writes to it", folder)
    except OSError as error:
        return error
    return None
