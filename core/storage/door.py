"""What every reader of files does first: make sure that there is a file, and that its errors stay short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

MAX_NUMBERS = 2**32  # of a model; the largest one known has 3.1 billion


def brief(value: Any, most: int = 80) -> str:
    """Foreign text for a message: in one line, shortened where it is long."""
    try:
        text = value if isinstance(value, str) else str(value)
    except (ValueError, RecursionError):  # a whole number of many thousand digits, a structure of many levels
        text = f"a very long {type(value).__name__}"
    start = text[: 4 * most]
    start = "".join(letter if letter.isprintable() else " " for letter in start)
    start = " ".join(start.split())
    return start if len(start) <= most and len(text) <= 4 * most else f"{start[: most - 3]}..."


def existing_file(path: str | Path, what: str) -> Path:
    """The path of a file that is there and may be read; `what` says which kind is wanted, as in "a model file".

    Raises:
        FileNotFoundError: no such file; a folder; a link to itself; a name that no file can have.
        ValueError: it may not be read.
    """
    path = Path(path)
    try:
        if is_file(path):
            path.open("rb").close()
            return path
    except PermissionError as error:
        raise ValueError(f"{brief(path.name)} may not be read; change its permissions") from error
    reason = "is a folder" if is_folder(path) else "is no file" if is_there(path) else "does not exist"
    raise FileNotFoundError(f"{brief(path, 200)} {reason}; give the path of {what}")


def is_there(path: Path) -> bool:
    """True for anything that has this name, a pipe or a device too."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """True for a file; False where the name is none that a file system takes. PermissionError where a folder above
    it may not be looked into."""
    try:
        return path.is_file()
    except PermissionError:
        raise
    except (OSError, ValueError):  # too long, or with a zero in it
        return False


def is_folder(path: Path) -> bool:
    """The same for a folder."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def check_numbers(count: int, name: str) -> None:
    """ValueError for a file, or a part of it, with more numbers than any model has; a file with holes can claim that
    without taking room."""
    if count > MAX_NUMBERS:
        raise ValueError(f"{name} claims {count} numbers, more than any model known here; choose another file")
