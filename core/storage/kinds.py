"""The kinds of model that a sub-package offers, by the names that model files give them.

A file of the sub-package that ends with `KIND = Kind("name", Module, Config)` adds one; nothing else has to know of it.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Module = TypeVar("Module", covariant=True)


@dataclass(frozen=True)
class Kind(Generic[Module]):
    """A module's class and its config's, under the name that a model file gives them."""

    name: str
    module: type[Module]
    config: type


@functools.cache
def kinds_of(package: str) -> Mapping[str, Kind[Any]]:
    """Every `KIND` of the files of a package, by its name."""
    path = importlib.import_module(package).__path__
    files = (importlib.import_module(found.name) for found in pkgutil.walk_packages(path, f"{package}."))
    return {file.KIND.name: file.KIND for file in files if hasattr(file, "KIND")}


def kind_name(kinds: Mapping[str, Kind[Any]], model: object) -> str:
    """The name of a model's kind."""
    return next(name for name, kind in kinds.items() if type(model) is kind.module)
