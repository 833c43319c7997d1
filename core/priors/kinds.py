"""The kinds of prior that a model file may hold, by the name it gives them."""

from __future__ import annotations

from collections.abc import Mapping

from ..storage.kinds import Kind, kinds_of
from .base import Prior


def prior_kinds() -> Mapping[str, Kind[Prior]]:
    """All kinds of prior, by name: the `KIND` of each file of this folder."""
    return kinds_of(__package__)
