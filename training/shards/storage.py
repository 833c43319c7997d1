"""Files at any address that fsspec knows: a path, s3://, gs://, https://, memory:// ..."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, TypeVar

import fsspec
from fsspec.core import url_to_fs

FIRST_PAUSE, MAX_TRIES = 1.0, 7  # seconds, doubled after every failure: about a minute in all
FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ImportError, ValueError)

T = TypeVar("T")
logger = logging.getLogger("tessera")


@contextmanager
def open_address(address: str) -> Iterator[BinaryIO]:
    """A file to read from."""
    with fsspec.open(address, "rb") as file:
        yield file


def read_address(address: str) -> bytes:
    """The content of a file; storage that fails for a while is asked again."""

    def read() -> bytes:
        with open_address(address) as file:
            return file.read()

    return patiently(read, address)


def matching(pattern: str) -> list[str]:
    """The addresses that a pattern with *, ? or {000..012} stands for, in order."""
    from braceexpand import braceexpand

    found = []
    for address in braceexpand(pattern):
        if not any(sign in address for sign in "*?["):
            found.append(address)
            continue
        system, path = url_to_fs(address)
        found += [
            system.unstrip_protocol(name) for name in patiently(lambda s=system, p=path: sorted(s.glob(p)), address)
        ]
    return found


def patiently(action: Callable[[], T], what: str) -> T:
    """What `action` returns; where storage fails it is tried again, a little later each time.

    Raises:
        OSError: it fails every time.
    """
    failures = 0
    while True:
        try:
            return action()
        except Exception as error:
            failures += 1
            wait_or_raise(error, failures, what)


def wait_or_raise(error: Exception, failures: int, what: str) -> None:
    """Wait before the next try, longer after more failures in a row, or give up; at once on what waiting won't cure."""
    if isinstance(error, FINAL):
        raise error
    if failures >= MAX_TRIES:
        raise OSError(f"{what} can't be read, the last of {failures} times because of: {said(error)}") from error
    pause = FIRST_PAUSE * 2 ** (failures - 1)
    logger.warning("%s: %s; trying again in %g seconds", what, said(error), pause)
    time.sleep(pause)


def said(error: Any) -> str:
    """An error in one line; some of those of networks say nothing."""
    return " ".join(str(error).split()) or type(error).__name__
