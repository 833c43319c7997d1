"""Paths in run configurations."""

import os
from typing import Any


def expand_home(config: Any, *names: str) -> None:
    """Let ~ at the beginning of these paths of a config be the home folder."""
    for name in names:
        object.__setattr__(config, name, os.path.expanduser(getattr(config, name)))
