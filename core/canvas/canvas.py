"""The canvas: a mosaic of codes with some cells known and the others to be filled.

All unknown is synthesis; the lower half unknown, completion; a painted mask, inpainting; a ring around
an image, outpainting; larger than the window, a sliding window.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from ..geometry import Wrap

MAX_CELLS = 2**24  # as 4096 x 4096


@dataclass(frozen=True)
class Canvas:
    """indices [B, h, w] int64 and known [B, h, w] bool. Every method returns a new canvas.

    padding: how much of the last row and of the last column lies beyond the image, in shares of a cell,
        0 to below 1: an image whose sides are no multiples of the stride only fills part of them.
    wrap: borders at which the image goes on with its other end, so that it tiles: see `sampling.windows`.
    provenance: how each image was last painted, as `provenance.origin` writes it ("" where it was not), or none at all.

    Raises ValueError for tensors of other shapes or types, negative codes, and an image that would overhang where it
    wraps.
    """

    indices: Tensor
    known: Tensor
    padding: tuple[float, float] = (0.0, 0.0)
    wrap: Wrap = "none"
    provenance: tuple[str, ...] = ()

    def __post_init__(self):
        if not all(0 <= share < 1 for share in self.padding):
            raise ValueError(f"the overhang is {self.padding}; choose shares of a cell from 0 to below 1")
        if self.indices.ndim != 3 or self.indices.shape != self.known.shape or not self.indices.numel():
            raise ValueError(
                f"a canvas needs indices and known of one shape [B, h, w] without a zero, "
                f"got {tuple(self.indices.shape)} and {tuple(self.known.shape)}"
            )
        if self.indices.dtype != torch.int64 or self.known.dtype != torch.bool:
            raise ValueError(
                f"a canvas needs indices of int64 and known of bool, got {self.indices.dtype} and {self.known.dtype}"
            )
        if int(self.indices.min()) < 0:
            raise ValueError(
                f"a canvas holds code {int(self.indices.min())}; codes count from 0, unknown cells are those not known"
            )
        if len(self.provenance) not in (0, len(self.indices)):
            raise ValueError(
                f"{len(self.provenance)} origins are given for {len(self.indices)} pictures; give each its own"
            )
        check_wrap(self.wrap, self.padding)

    @classmethod
    def empty(cls, batch: int, height: int, width: int) -> Canvas:
        """All cells unknown; sizes in cells."""
        if min(batch, height, width) < 1:
            raise ValueError(f"a canvas of {batch} x {height} x {width} cells has none; use at least 1 x 1 x 1")
        if batch * height * width > MAX_CELLS:
            raise ValueError(
                f"a canvas of {batch} x {height} x {width} cells is too large; use at most {MAX_CELLS} cells"
            )
        indices = torch.zeros(batch, height, width, dtype=torch.int64)
        return cls(indices, torch.zeros_like(indices, dtype=torch.bool))

    @classmethod
    def filled(cls, indices: Tensor) -> Canvas:
        """All cells known: [B, h, w] int64, as `VQGAN.encode_indices` gives them."""
        return cls(indices.clone(), torch.ones_like(indices, dtype=torch.bool))

    def with_padding(self, padding: tuple[float, float]) -> Canvas:
        """The same cells with this padding."""
        return replace(self.clone(), padding=padding)

    def with_wrap(self, wrap: Wrap) -> Canvas:
        """The same cells; the image goes on at these borders. ValueError where it overhangs there."""
        return replace(self.clone(), wrap=wrap)

    def with_provenance(self, provenance: tuple[str, ...]) -> Canvas:
        """The same cells; how each image was painted."""
        return replace(self.clone(), provenance=provenance)

    def with_cells(self, indices: Tensor, known: Tensor) -> Canvas:
        """Other cells [B, h, w] in as many images of the same size, padding, wrap and provenance."""
        return replace(self, indices=indices.clone(), known=known.clone())

    def clone(self) -> Canvas:
        """The same, sharing no memory."""
        return self.with_cells(self.indices, self.known)

    def wraps(self, side: Literal["height", "width"]) -> bool:
        """Whether it goes on at the two ends of its height, or of its width."""
        return self.wrap in ("both", "y" if side == "height" else "x")

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
        return self.with_cells(self.indices, self.known & ~mask.to(self.known.device))

    def crop(self, top: int, left: int, height: int, width: int) -> Canvas:
        """A rectangle of cells, which wraps where it reaches from border to border; ValueError if it leaves the
        canvas."""
        self._check_inside(top, left, height, width)
        part = (slice(None), slice(top, top + height), slice(left, left + width))
        bottom, right = self.padding
        padding = (bottom if top + height == self.size[0] else 0.0, right if left + width == self.size[1] else 0.0)
        wrap = wrap_of(self.wraps("width") and width == self.size[1], self.wraps("height") and height == self.size[0])
        return Canvas(self.indices[part].clone(), self.known[part].clone(), padding, wrap, self.provenance)

    def paste(self, other: Canvas, top: int, left: int) -> Canvas:
        """Lay the known cells of `other` over this canvas; its unknown cells change nothing.

        Raises:
            ValueError: it leaves this canvas, or holds several images and not as many as this one.
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
        return self.with_cells(indices, known)

    def roll(self, rows: int, columns: int) -> Canvas:
        """Shift down and right; what leaves on one side enters on the other. Cells that overhung are whole then."""
        shift, sides = (rows, columns), (1, 2)
        indices, known = self.indices.roll(shift, sides), self.known.roll(shift, sides)
        return Canvas(indices, known, wrap=self.wrap, provenance=self.provenance)

    def repeat(self, batch: int) -> Canvas:
        """The same canvas `batch` times."""
        return self.pick(torch.arange(len(self.indices)).repeat(batch))

    def pick(self, which: Tensor) -> Canvas:
        """Some of the images: `which` int64 numbers of them, in any order."""
        provenance = tuple(self.provenance[number] for number in which.tolist()) if self.provenance else ()
        return replace(self, indices=self.indices[which], known=self.known[which], provenance=provenance)

    def join(self, others: list[Canvas]) -> Canvas:
        """Its images, then those of the others; ValueError for canvases of another size."""
        if any(other.size != self.size for other in others):
            sizes = ", ".join(f"{height}x{width}" for height, width in (c.size for c in (self, *others)))
            raise ValueError(f"canvases of {sizes} cells can't be joined; crop them to one size")
        every = (self, *others)
        provenance = (
            sum((c.provenance or ("",) * len(c.indices) for c in every), ()) if any(c.provenance for c in every) else ()
        )
        indices, known = torch.cat([c.indices for c in every]), torch.cat([c.known for c in every])
        return replace(self, indices=indices, known=known, provenance=provenance)

    def _check_inside(self, top: int, left: int, height: int, width: int) -> None:
        own_height, own_width = self.size
        inside = 0 <= top <= own_height - height and 0 <= left <= own_width - width
        if not inside or height < 1 or width < 1:
            raise ValueError(
                f"{height}x{width} cells at row {top}, column {left} leave the canvas of {own_height}x{own_width}"
            )


def check_wrap(wrap: Wrap, padding: tuple[float, float]) -> None:
    """Raise ValueError for an unknown wrap, and for an image that ends within a cell where it would go on."""
    if wrap not in get_args(Wrap):
        raise ValueError(f"wrap is {wrap!r}; choose {', '.join(get_args(Wrap))}")
    (bottom, right), height, width = padding, wrap in ("y", "both"), wrap in ("x", "both")
    if (bottom and height) or (right and width):
        raise ValueError(
            f"the picture ends within a cell, so it can't wrap ({wrap}); make its "
            f"{'height' if bottom and height else 'width'} a multiple of a cell, usually of 16 pixels"
        )


def wrap_of(width: bool, height: bool) -> Wrap:
    """The name of wrapping at the two ends of the width, of the height, of both or neither."""
    if width and height:
        return "both"
    return "x" if width else "y" if height else "none"
