"""A canvas as a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..storage.door import brief
from ..storage.tensors import load_tensors, save_tensors
from .canvas import Canvas


def save_canvas(path: str | Path, canvas: Canvas) -> None:
    """Write a canvas."""
    save_tensors(path, "canvas", {"indices": canvas.indices, "known": canvas.known}, canvas_metadata(canvas))


def load_canvas(path: str | Path) -> Canvas:
    """Read a canvas; errors as `load_tensors`."""
    tensors, metadata = load_tensors(path, "canvas", {"indices", "known"})
    return canvas_from(tensors["indices"], tensors["known"], metadata, Path(path).name)


def canvas_metadata(canvas: Canvas) -> dict[str, str]:
    """What a file says of a canvas besides its cells."""
    return {"overhang": json.dumps(canvas.padding), "wrap": canvas.wrap, "origins": json.dumps(canvas.provenance)}


def canvas_from(indices: Tensor, known: Tensor, metadata: dict[str, str], name: str) -> Canvas:
    """The canvas of a file called `name`, whose cells are read; ValueError for what no canvas can be."""
    try:
        down, right = json.loads(metadata.get("overhang", "[0, 0]"))
        padding = float(down), float(right)
        wrap: Any = metadata.get("wrap", "none")  # `Canvas` checks it
        provenance = tuple(str(origin) for origin in json.loads(metadata.get("origins", "[]")))
        return Canvas(whole_numbers(indices), known.bool(), padding, wrap, provenance)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise ValueError(f"{name} is not a saved canvas ({brief(error)}); choose another file") from error


def whole_numbers(indices: Tensor) -> Tensor:
    """Codes as int64; ValueError unless they are whole numbers from 0."""
    if indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
        raise ValueError(f"its codes are {indices.dtype}, not whole numbers")
    if indices.numel() and int(indices.min()) < 0:
        raise ValueError(f"it holds code {int(indices.min())}, the lowest is 0")
    return indices.long()
