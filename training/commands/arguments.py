"""Kinds of arguments that several commands take."""

from pathlib import Path


def file_path(text: str) -> Path:
    """A path; ~ is the home folder also where a shell leaves it, as in --output=~/x."""
    return Path(text).expanduser()
