"""Small files of tensors: canvases, states, forecasts."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .atomic import atomic_write


def save_tensors(path: str | Path, kind: str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a small safetensors file marked with `kind`."""
    stored = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as partial:
        save_file(stored, partial, {"format": "tessera/1", "kind": kind, **metadata})


def load_tensors(path: str | Path, kind: str, names: set[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `save_tensors` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, or not a file of this kind with just these tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give the path of a saved {kind}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
    except SafetensorError as error:
        raise ValueError(f"{path.name} is truncated or not a safetensors file ({error})") from error
    if metadata.get("kind") != kind or set(tensors) != names:
        raise ValueError(f"{path.name} is not a saved {kind}; choose another file")
    return tensors, metadata
