"""Cutouts: the many views of an image that CLIP judges while the image is being made.

A view is a square of the image, moved, turned and seen in perspective by one projective map, then lit, holed and
made noisy. So a pattern that fools CLIP from one place only gains nothing. All of it is drawn from one generator.

    image [1, 3, H, W] --map, from the nearest halving of its size--> views [n, 3, S, S] --light, holes, noise-->
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Kind = Literal["mixed", "crop", "whole", "zoom"]
SMALLEST_CROP = 0.3  # of the shorter side, for "mixed"
ZOOM = (0.25, 0.95)  # of the shorter side, for "zoom"
MAX_CUTOUTS = 1024


@dataclass(frozen=True, kw_only=True)
class CutoutSettings:
    """Which views are taken. ValueError for values out of range.

    kind: "crop" are squares from CLIP's own size to the shorter side (Crowson's notebook), "whole" the whole
        image again and again, "zoom" six of ten close, four whole, and "mixed" half whole, half of any size.
    """

    count: int = 32
    kind: Kind = "mixed"
    augment: bool = True  # turn, shear, perspective, light, holes
    noise: float = 0.1  # largest standard deviation of the noise laid over a view

    def __post_init__(self):
        if not 1 <= self.count <= MAX_CUTOUTS:
            raise ValueError(f"the number of cutouts is {self.count}; choose 1 to {MAX_CUTOUTS}")
        if self.kind not in get_args(Kind):
            raise ValueError(f"cutouts are {self.kind!r}; use {', '.join(get_args(Kind))}")
        if not 0 <= self.noise <= 1:
            raise ValueError(f"the noise of cutouts is {self.noise}; choose 0 to 1")


class Views(NamedTuple):
    """n views that have been drawn, not yet taken."""

    squares: Tensor  # [n, 4] left, top, right, bottom in pixels; may reach beyond the image
    maps: Tensor  # [n, 3, 3] from a view's -1..1 to its square's -1..1
    gains: Tensor  # [n, 3]
    holes: Tensor  # [n, 4] left, top, right, bottom in -1..1 of the view; empty where left is right
    grays: Tensor  # [n] 0..1, what lies beyond the image and in holes
    noise: Tensor  # [n, 3, S, S]

    def part(self, start: int, stop: int, device: torch.device) -> Views:
        """Some of them, on a device."""
        return Views(*(field[start:stop].to(device) for field in self))


def draw_views(settings: CutoutSettings, height: int, width: int, size: int, generator: torch.Generator) -> Views:
    """Draw `settings.count` views of an image of height x width pixels, for a CLIP of `size` pixels.

    The generator is on the CPU; it is drawn from in an order that does not depend on how the views are taken later.
    """
    n = settings.count
    sides = _draw_sides(settings, height, width, size, generator)
    room = torch.tensor([width, height]) - sides[:, None]  # [n, 2], negative where a square holds the whole image
    place = torch.where(room > 0, room * torch.rand(n, 2, generator=generator), room / 2)
    squares = torch.cat([place, place + sides[:, None]], 1)
    light = torch.rand(n, 4, generator=generator) * 2 - 1
    gains = 1 + 0.05 * light[:, :3] + 0.1 * light[:, 3:]
    maps, holes = _draw_maps(n, generator), _draw_holes(n, generator)
    if not settings.augment:
        gains, maps, holes = torch.ones(n, 3), torch.eye(3).repeat(n, 1, 1), torch.zeros(n, 4)
    grays, strength = torch.rand(2, n, generator=generator)
    noise = torch.stack([torch.randn(3, size, size, generator=generator) for _ in range(n)])
    return Views(squares, maps, gains, holes, grays, noise * (settings.noise * strength).view(n, 1, 1, 1))


def take_views(image: Tensor, views: Views, size: int) -> Tensor:
    """Views as CLIP sees them.

    Args:
        image: [1, 3, H, W] in 0..1.
        views: on the image's device.
    Returns:
        [n, 3, size, size], about 0..1, with the gradient of the image.
    """
    height, width = image.shape[2:]
    grid = _view_grid(views, height, width, size)  # [n, S, S, 2]
    taken = _sample(image, grid, (views.squares[:, 2] - views.squares[:, 0]) / size)
    inside = (grid.abs() <= 1).all(3).unsqueeze(1)  # [n, 1, S, S]
    x = torch.where(inside, taken * views.gains.view(-1, 3, 1, 1), views.grays.view(-1, 1, 1, 1))
    x = torch.where(_in_holes(views.holes, size), views.grays.view(-1, 1, 1, 1), x)
    return x + views.noise


def coverage(views: Views, mask: Tensor) -> Tensor:
    """How much of each view's square lies in a region: mask [H, W] in 0..1 -> [n] in 0..1."""
    size = 32
    plain = views._replace(maps=torch.eye(3, device=mask.device).repeat(len(views.maps), 1, 1))
    grid = _view_grid(plain, mask.shape[0], mask.shape[1], size)
    planes = mask.expand(len(grid), 1, *mask.shape)
    return F.grid_sample(planes, grid, padding_mode="zeros", align_corners=False).mean((1, 2, 3))


def _draw_sides(settings: CutoutSettings, height: int, width: int, size: int, generator: torch.Generator) -> Tensor:
    """Sides of the squares [n], in pixels."""
    short, long, n = min(height, width), max(height, width), settings.count
    rand = torch.rand(n, generator=generator)
    if settings.kind == "whole":
        return torch.full((n,), float(long))
    if settings.kind == "crop":
        smallest = min(short, size)
        return (rand * (short - smallest) + smallest).floor()
    low, high, whole = (*ZOOM, 0.4) if settings.kind == "zoom" else (SMALLEST_CROP, 1.0, 0.5)
    close = (rand * (high - low) + low) * short
    return torch.where(torch.arange(n) < round(whole * n), torch.tensor(float(long)), close)


def _draw_maps(n: int, generator: torch.Generator) -> Tensor:
    """Projective maps [n, 3, 3]: turned by up to 15 degrees, sheared, resized, moved, tilted."""
    r = torch.rand(n, 9, generator=generator) * 2 - 1
    r = r * (torch.rand(n, 1, generator=generator) < 0.8)  # a fifth stays straight
    angle, zoom = r[:, 0] * math.radians(15), torch.exp(0.15 * r[:, 1])
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    maps = torch.eye(3).repeat(n, 1, 1)
    maps[:, 0, 0], maps[:, 0, 1], maps[:, 0, 2] = cos, -sin + 0.08 * r[:, 2], 0.1 * r[:, 3]
    maps[:, 1, 0], maps[:, 1, 1], maps[:, 1, 2] = sin + 0.08 * r[:, 4], cos, 0.1 * r[:, 5]
    maps[:, 2, 0], maps[:, 2, 1] = 0.12 * r[:, 6], 0.12 * r[:, 7]
    return maps


def _draw_holes(n: int, generator: torch.Generator) -> Tensor:
    """In three of ten views a square of 10 to 40 % of the side: [n, 4]."""
    r = torch.rand(n, 4, generator=generator)
    side = torch.where(r[:, :1] < 0.3, 0.2 + 0.6 * r[:, 1:2], 0.0)  # of the two that -1..1 measures
    corner = -1 + (2 - side) * r[:, 2:]
    return torch.cat([corner, corner + side], 1)


def _in_holes(holes: Tensor, size: int) -> Tensor:
    """Pixels in the hole of a view: [n, 1, S, S] bool."""
    at = (torch.arange(size, device=holes.device) + 0.5) * 2 / size - 1
    across = (at >= holes[:, :1]) & (at < holes[:, 2:3])  # [n, S]
    down = (at >= holes[:, 1:2]) & (at < holes[:, 3:4])
    return (down[:, :, None] & across[:, None, :]).unsqueeze(1)


def _view_grid(views: Views, height: int, width: int, size: int) -> Tensor:
    """Where in the image, -1..1, the pixels of views lie: [n, S, S, 2]."""
    at = (torch.arange(size, device=views.maps.device) + 0.5) * 2 / size - 1
    y, x = torch.meshgrid(at, at, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)], -1)  # [S, S, 3]
    seen = torch.einsum("nij,yxj->nyxi", views.maps, points)
    seen = seen[..., :2] / seen[..., 2:]
    scale = views.maps.new_tensor([width, height])
    center = (views.squares[:, :2] + views.squares[:, 2:]) / scale - 1  # [n, 2]
    reach = (views.squares[:, 2:] - views.squares[:, :2]) / scale
    return seen * reach[:, None, None] + center[:, None, None]


def _sample(image: Tensor, grid: Tensor, shrink: Tensor) -> Tensor:
    """The image at the points of a grid, from the halving of it that is nearest to the views' resolution.

    Args:
        shrink: [n] pixels of the image for one of a view.
    """
    levels = shrink.clamp(min=1).log2().round().long().tolist()
    halvings, taken = [image], [grid.new_empty(0)] * len(levels)
    while len(halvings) <= max(levels):
        height, width = halvings[-1].shape[2:]
        halvings.append(F.adaptive_avg_pool2d(halvings[-1], (max(1, height // 2), max(1, width // 2))))
    for level in sorted(set(levels)):
        rows = [i for i, own in enumerate(levels) if own == level]
        planes = halvings[level].expand(len(rows), -1, -1, -1)
        found = F.grid_sample(planes, grid[rows], padding_mode="border", align_corners=False)
        for row, view in zip(rows, found, strict=True):
            taken[row] = view
    return torch.stack(taken)
