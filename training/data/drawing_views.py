"""Views of drawings for CLIP: other colors, grounds, places, and the blur, noise and holes that guidance brings."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .captions import COLORS

TILES = 4  # a side, of pictures of nothing


def draw_drawing_views(images: Tensor, tint: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Random views of drawings.

    Args:
        images: [B, 4, R, R] in 0..1, color and opacity.
        tint: [B] number of the color to give each, -1 to leave it.
    Returns:
        [B, 3, size, size] in 0..1.
    """
    rgb, alpha = tint_images(images, tint, generator).split([3, 1], 1)
    count = len(images)
    grid = F.affine_grid(_random_maps(count, generator), [count, 4, size, size], align_corners=False)
    placed = F.grid_sample(torch.cat([rgb * alpha, alpha], 1), grid, align_corners=False)
    rgb, alpha = placed.split([3, 1], 1)
    return spoil_images(rgb + _random_grounds(count, size, generator) * (1 - alpha), generator)


def tint_images(images: Tensor, tint: Tensor, generator: torch.Generator) -> Tensor:
    """Give drawings a color and keep their light and dark, and vary all a little: [B, 4, R, R] -> same."""
    rgb, alpha = images.split([3, 1], 1)
    count = len(images)
    wanted = palette()[tint.clamp(min=0)].view(count, 3, 1, 1)
    wanted = (wanted + 0.06 * _spread(generator, count, 3, 1, 1)).clamp(0, 1)
    gray = (rgb * torch.tensor([0.3, 0.59, 0.11]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    mean = (gray * alpha).sum((1, 2, 3), keepdim=True) / alpha.sum((1, 2, 3), keepdim=True).clamp(min=1)
    knee = mean.clamp(0.35, 0.75)  # takes the color itself; darker goes to black, lighter to white
    tinted = torch.where(gray < knee, wanted * (gray / knee), wanted + (1 - wanted) * (gray - knee) / (1 - knee))
    strength = torch.where(tint >= 0, 0.75 + 0.25 * torch.rand(count, generator=generator), 0)
    rgb = torch.lerp(rgb, tinted, strength.view(-1, 1, 1, 1))
    light = 1 + 0.07 * _spread(generator, count, 3, 1, 1) + 0.1 * _spread(generator, count, 1, 1, 1)
    return torch.cat([(rgb * light).clamp(0, 1), alpha], 1)


def spoil_images(images: Tensor, generator: torch.Generator) -> Tensor:
    """Blur a quarter of the images, lay noise over half of them, and make holes in a fifth: [B, 3, S, S] -> same."""
    count, size = len(images), images.shape[2]

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    soft = F.interpolate(F.avg_pool2d(images, 3), size, mode="bilinear")
    images = torch.where(rand(count, 1, 1, 1) < 0.25, soft, images)
    noise = torch.randn(images.shape, generator=generator)
    images = images + 0.08 * rand(count, 1, 1, 1) * (rand(count, 1, 1, 1) < 0.5) * noise
    side = 0.1 + 0.25 * rand(count, 1)
    top, left = rand(count, 1) * (1 - side), rand(count, 1) * (1 - side)
    at = torch.arange(size).view(1, -1) / size
    down, across = (at >= top) & (at < top + side), (at >= left) & (at < left + side)
    hole = down[:, :, None] & across[:, None, :] & (rand(count, 1, 1) < 0.2)
    return torch.where(hole[:, None], rand(count, 3, 1, 1), images).clamp(0, 1)


def shuffle_tiles(images: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures of nothing: the tiles of images in another order, [B, 3, S, S] -> same. Without them, guidance would
    find that parts anywhere please as much as a whole."""
    count, size = len(images), images.shape[2]
    step = size // TILES
    tiles = F.unfold(images[:, :, : step * TILES, : step * TILES], step, stride=step)  # [B, 3*step*step, TILES*TILES]
    order = torch.rand(count, 1, tiles.shape[2], generator=generator).argsort(2).expand_as(tiles)
    shuffled = F.fold(tiles.gather(2, order), step * TILES, step, stride=step)
    return F.interpolate(shuffled, size)


def palette() -> Tensor:
    """The colors that have names, [n, 3] in 0..1."""
    return torch.tensor([rgb for _, rgb in COLORS.values()]) / 255


def _spread(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=generator) * 2 - 1


def _random_maps(count: int, generator: torch.Generator) -> Tensor:
    """Affine maps [B, 2, 3] from a view to a drawing: turned, resized, stretched, mirrored, moved."""
    angle = math.radians(20) * _spread(generator, count) * (torch.rand(count, generator=generator) < 0.6)
    zoom = torch.exp(0.4 * _spread(generator, count) - 0.05)
    stretch = torch.exp(0.15 * _spread(generator, count))
    flip = torch.where(torch.rand(count, generator=generator) < 0.3, -1.0, 1.0)
    shift = _spread(generator, count, 2) * (0.25 + 0.4 * (1 / zoom - 1).abs())[:, None]
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    rows = [
        torch.stack([cos * flip * stretch, -sin, shift[:, 0]], 1),
        torch.stack([sin * flip, cos / stretch, shift[:, 1]], 1),
    ]
    return torch.stack(rows, 1)


def _random_grounds(count: int, size: int, generator: torch.Generator) -> Tensor:
    """White for four of ten, plain colors for three, soft spots for the others: [B, 3, size, size]."""
    kind = torch.rand(count, 1, 1, 1, generator=generator)
    plain = torch.rand(count, 3, 1, 1, generator=generator)
    spots = F.interpolate(torch.rand(count, 3, 4, 4, generator=generator), size, mode="bilinear")
    return torch.where(kind < 0.4, 1.0, torch.where(kind < 0.7, plain, 0.6 * spots + 0.4 * plain))
