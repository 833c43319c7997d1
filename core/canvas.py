"""The canvas: a mosaic of codes with some cells known and the others to be filled.

All unknown is synthesis; the lower half unknown, completion; a painted mask, inpainting; a ring around
a picture, outpainting; larger than the window, a sliding window.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .whole_file import whole_file


@dataclass(frozen=True)
class Canvas:
    """indices [B, h, w] int64 and known [B, h, w] bool. Every method returns a new canvas.

    overhang: how much of the last row and of the last column lies beyond the picture, in shares of a cell,
        0 to below 1: a picture whose sides are no multiples of the stride only fills part of them.

    Raises ValueError for tensors of other shapes.
    """

    indices: Tensor
    known: Tensor
    overhang: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self):
        if not all(0 <= share < 1 for share in self.overhang):
            raise ValueError(f"the overhang is {self.overhang}; choose shares of a cell from 0 to below 1")
        if self.indices.ndim != 3 or self.indices.shape != self.known.shape or not self.indices.numel():
            raise ValueError(
                f"a canvas needs indices and known of one shape [B, h, w] without a zero, "
                f"got {tuple(self.indices.shape)} and {tuple(self.known.shape)}"
            )

    @classmethod
    def empty(cls, batch: int, height: int, width: int) -> Canvas:
        """All cells unknown; sizes in cells."""
        if min(batch, height, width) < 1:
            raise ValueError(f"a canvas of {batch} x {height} x {width} cells has none; use at least 1 x 1 x 1")
        indices = torch.zeros(batch, height, width, dtype=torch.int64)
        return cls(indices, torch.zeros_like(indices, dtype=torch.bool))

    @classmethod
    def filled(cls, indices: Tensor) -> Canvas:
        """All cells known: [B, h, w] int64, as `VQGAN.encode_indices` gives them."""
        return cls(indices.clone(), torch.ones_like(indices, dtype=torch.bool))

    def with_overhang(self, overhang: tuple[float, float]) -> Canvas:
        """The same cells, the last row and column cut by so much."""
        return Canvas(self.indices.clone(), self.known.clone(), overhang)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in cells."""
        return self.indices.shape[1], self.indices.shape[2]

    def forget(self, mask: Tensor) -> Canvas:
        """Make the cells where `mask` [h, w] or [B or 1, h, w] bool unknown; ValueError for any other mask."""
        if mask.dtype != torch.bool or mask.shape not in (self.size, (1, *self.size), self.known.shape):
            raise ValueError(
                f"the mask is {tuple(mask.shape)} {mask.dtype}, the canvas {tuple(self.known.shape)}; "
                "give one bool for each cell"
            )
        return Canvas(self.indices.clone(), self.known & ~mask.to(self.known.device), self.overhang)

    def crop(self, top: int, left: int, height: int, width: int) -> Canvas:
        """A rectangle of cells; ValueError if it leaves the canvas."""
        self._check_inside(top, left, height, width)
        part = (slice(None), slice(top, top + height), slice(left, left + width))
        reaches = (top + height == self.size[0], left + width == self.size[1])
        overhang = tuple(share if last else 0.0 for share, last in zip(self.overhang, reaches, strict=True))
        return Canvas(self.indices[part].clone(), self.known[part].clone(), overhang)

    def paste(self, other: Canvas, top: int, left: int) -> Canvas:
        """Lay the known cells of `other` over this canvas; its unknown cells change nothing.

        Raises:
            ValueError: it leaves this canvas, or holds several pictures and not as many as this one.
        """
        height, width = other.size
        self._check_inside(top, left, height, width)
        if len(other.indices) not in (1, len(self.indices)):
            raise ValueError(
                f"{len(other.indices)} pictures can't be pasted into {len(self.indices)}; "
                "paste one into all, or as many as there are"
            )
        part = (slice(None), slice(top, top + height), slice(left, left + width))
        indices, known = self.indices.clone(), self.known.clone()
        indices[part] = torch.where(other.known, other.indices, indices[part])
        known[part] |= other.known
        return Canvas(indices, known, self.overhang)

    def roll(self, rows: int, columns: int) -> Canvas:
        """Shift down and right; what leaves on one side enters on the other. Cells that overhung are whole then."""
        shift, sides = (rows, columns), (1, 2)
        return Canvas(self.indices.roll(shift, sides), self.known.roll(shift, sides))

    def repeat(self, batch: int) -> Canvas:
        """The same canvas `batch` times."""
        return Canvas(self.indices.repeat(batch, 1, 1), self.known.repeat(batch, 1, 1), self.overhang)

    def pick(self, which: Tensor) -> Canvas:
        """Some of the pictures: `which` int64 numbers of them, in any order."""
        return Canvas(self.indices[which], self.known[which], self.overhang)

    def join(self, others: list[Canvas]) -> Canvas:
        """Its pictures, then those of the others; ValueError for canvases of another size."""
        if any(other.size != self.size for other in others):
            sizes = ", ".join(f"{height}x{width}" for height, width in (c.size for c in (self, *others)))
            raise ValueError(f"canvases of {sizes} cells can't be joined; crop them to one size")
        every = (self, *others)
        return Canvas(torch.cat([c.indices for c in every]), torch.cat([c.known for c in every]), self.overhang)

    def _check_inside(self, top: int, left: int, height: int, width: int) -> None:
        own_height, own_width = self.size
        inside = 0 <= top <= own_height - height and 0 <= left <= own_width - width
        if not inside or height < 1 or width < 1:
            raise ValueError(
                f"{height}x{width} cells at row {top}, column {left} leave the canvas of {own_height}x{own_width}"
            )


def save_tensors(path: str | Path, kind: str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a small safetensors file marked with `kind`."""
    stored = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    with whole_file(path) as partial:
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


def save_canvas(path: str | Path, canvas: Canvas) -> None:
    """Write a canvas."""
    metadata = {"overhang": json.dumps(canvas.overhang)}
    save_tensors(path, "canvas", {"indices": canvas.indices, "known": canvas.known}, metadata)


def load_canvas(path: str | Path) -> Canvas:
    """Read a canvas; errors as `load_tensors`."""
    tensors, metadata = load_tensors(path, "canvas", {"indices", "known"})
    try:
        down, right = json.loads(metadata.get("overhang", "[0, 0]"))
        return Canvas(tensors["indices"].long(), tensors["known"].bool(), (float(down), float(right)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{Path(path).name} is not a saved canvas ({error}); choose another file") from error
