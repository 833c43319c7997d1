"""What numbers and paths of run configurations may be. Every error names the setting, the value and what would do."""

import math
import os
from dataclasses import fields
from typing import Any


def check_numbers(config: Any, group: str, names: tuple[str, ...], low: float, high: float = math.inf) -> None:
    """Raise ValueError unless these numbers of a config are from `low` to `high`."""
    for name in names:
        value = getattr(config, name)
        if not low <= value <= high:
            cure = f"it must be at least {low}" if high == math.inf else f"choose {low} to {high}"
            raise ValueError(f"{group}{name} is {value}; {cure}")


def check_positive(config: Any, group: str, *names: str) -> None:
    """Raise ValueError unless these numbers are above 0."""
    for name in names:
        if getattr(config, name) <= 0:
            raise ValueError(f"{group}{name} is {getattr(config, name)}; it must be above 0")


def check_shares(config: Any, group: str, *names: str) -> None:
    """Raise ValueError unless these numbers, or all of a config, are shares, 0 to 1."""
    for name in names or vars(config):
        if not 0 <= getattr(config, name) <= 1:
            raise ValueError(f"{group}{name} is {getattr(config, name)}; choose a share from 0 to 1, such as 0.2")


def check_ranges(config: Any, group: str, names: tuple[str, ...], low: float, high: float) -> None:
    """Raise ValueError unless these pairs are ranges between `low` and `high`."""
    for name in names:
        first, last = getattr(config, name)
        if not low <= first <= last <= high:
            raise ValueError(
                f"{group}{name} is {[first, last]}; write the lower number first, both from {low} to {high}"
            )


def expand_paths(config: Any, group: str, *names: str) -> None:
    """Let ~ at the beginning of these paths be the home folder; ValueError for a path that no file can have, and for an
    empty one without a default."""
    required = {field.name for field in fields(config) if field.default != ""}
    for name in names:
        path = getattr(config, name)
        if "\0" in path or (not path and name in required):
            raise ValueError(f"{group}{name} is {path!r}; give a path")
        object.__setattr__(config, name, os.path.expanduser(path))
