"""Small files of tensors: canvases, states, forecasts."""

from __future__ import annotations

import math
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .atomic import atomic_write
from .door import brief, existing_file
from .header import check_header

MAX_CELLS = 2**27  # of one tensor: 64 canvases of 1024 x 1024 cells, twice


def save_tensors(path: str | Path, kind: str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a small safetensors file marked with `kind`."""
    stored = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as partial:
        save_file(stored, partial, {"format": "tessera/1", "kind": kind, **metadata})


def load_tensors(
    path: str | Path, kind: str, names: set[str], most: float = MAX_CELLS
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `save_tensors` wrote.

    Args:
        most: numbers that one tensor may have.
    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, or not a file of this kind with just these tensors.
    """
    path = existing_file(path, f"a saved {kind}")
    try:
        check_header(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("kind") != kind or set(file.keys()) != names:
                raise ValueError(f"{path.name} is not a saved {kind}; choose another file")
            numbers = max(math.prod(file.get_slice(name).get_shape()) for name in names)
            if numbers > most:
                raise ValueError(f"{path.name} claims {numbers} cells, more than any {kind} has; choose another file")
            return {name: file.get_tensor(name) for name in names}, metadata
    except (SafetensorError, OSError, RuntimeError, AttributeError, KeyError, TypeError) as error:  # dtypes, sizes
        raise ValueError(f"{path.name} is truncated or not a safetensors file ({brief(error)})") from error
