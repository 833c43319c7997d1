"""Scenes of drawings: placed, turned, recolored, on plain, graded and textured grounds; leaves that fill the image.

All of this is tensor operations on the device that holds the drawings, since a GPU trains faster than CPUs draw.
The random numbers are torch's own, which the loop seeds anew at every step.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from ..config.runs import DataConfig
from ..config.scenes import SceneConfig

LEAVES = 36  # of a leaf image, large ones first
YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


class Scenes(NamedTuple):
    """images [B, 3, S, S] in 0..1; `first` [B], the drawing in front, `second` [B] the one behind; -1 where none."""

    images: Tensor
    first: Tensor
    second: Tensor


class Painter:
    """Draws scenes of the drawings [N, 4, S, S] uint8, RGBA, not premultiplied; of those with `numbers`, or of all."""

    def __init__(self, drawings: Tensor, config: SceneConfig, numbers: Tensor | None = None):
        self.drawings, self.config = drawings, config
        self.numbers = torch.arange(len(drawings), device=drawings.device) if numbers is None else numbers
        self.side, self.device = drawings.shape[-1], drawings.device

    def paint(self, batch: int) -> Scenes:
        """A batch of scenes."""
        c = self.config
        leaves, row = round(c.leaves * batch), torch.arange(batch, device=self.device)
        bare = (row < round(0.6 * c.leaves * batch)) | ((row >= leaves) & (row < leaves + round(c.bare * batch)))
        images = self._grounds(batch)
        if leaves:
            images[:leaves] = self._leaves(leaves)
        first, second = self._any(batch), self._any(batch)
        two = self.chance(batch, c.several) & ~bare
        whole = self.chance(batch, c.whole) & ~two
        angle, shift = self.uniform(batch, -0.5, 0.5), self.uniform(batch, -0.7, 0.7, 2)
        images = self._lay(images, second, self.uniform(batch, 0.45, 0.9), angle, shift, two)
        zoom = torch.where(two, self.uniform(batch, 0.45, 0.95), self.uniform(batch, -0.5, 0.8).exp())
        zoom = torch.where(whole, self.uniform(batch, 0.85, 1.05), zoom)
        angle = self.uniform(batch, -0.4, 0.4) * torch.where(whole, 0.125, 1.0)
        shift = self.uniform(batch, -0.6, 0.6, 2) * torch.where(whole, 0.1, 1.0)[:, None]
        images = self._lay(images, first, zoom, angle, shift, ~bare)
        return Scenes(images.clamp(0, 1), first.where(~bare, -1), second.where(two, -1))

    def _lay(self, images: Tensor, number: Tensor, zoom: Tensor, angle: Tensor, shift: Tensor, on: Tensor) -> Tensor:
        """Images with a drawing each laid over them, mirrored or not, where `on`."""
        batch = len(number)
        mirror = torch.where(self.chance(batch, 0.5), -1.0, 1.0)
        far = self.chance(batch, self.config.hue)
        turn = torch.where(far, self.uniform(batch, -math.pi, math.pi), self.uniform(batch, -0.08, 0.08))
        if not on.any():
            return images
        row = torch.where(on)[0]
        rgb, alpha = place(self.drawings[number[row]], zoom[row], angle[row], shift[row], mirror[row])
        images[row] = torch.lerp(images[row], turn_hue(rgb, turn[row]), alpha)
        return images

    def _grounds(self, batch: int) -> Tensor:
        """White, plain, graded from one color to another, or mottled with two: [B, 3, S, S]."""
        one, other = self._colors(batch), self._colors(batch)
        line = torch.linspace(-1, 1, self.side, device=self.device)
        angle = self.uniform(batch, 0, 2 * math.pi).view(-1, 1, 1, 1)
        grade = (line * angle.cos() + line.view(-1, 1) * angle.sin()) * 0.5 + 0.5  # [B, 1, S, S]
        mottle = self.smooth_noise(batch, 1, 8) * 0.5 + 0.5
        kind, white = self.uniform(batch, 0, 1).view(-1, 1, 1, 1), self.config.white
        share = torch.where(kind < white + 0.8 * (1 - white), grade, mottle).clamp(0, 1)
        share = torch.where(kind < white + 0.5 * (1 - white), torch.zeros_like(share), share)
        return torch.where(kind < white, torch.ones_like(one), torch.lerp(one, other, share))

    def _leaves(self, batch: int) -> Tensor:
        """Dead leaves: ellipses and rounded rectangles over one another, each of one color or shaded [B, 3, S, S]."""
        line = torch.linspace(-1, 1, self.side, device=self.device)
        x, y = line, line.view(-1, 1)
        images = self._colors(batch).repeat(1, 1, self.side, self.side)
        for number in range(LEAVES):
            size = (0.9 * (1 - number / LEAVES) ** 1.2 + 0.04) * self.uniform(batch, 0.4, 1.4)
            angle, slim = self.uniform(batch, 0, math.pi), self.uniform(batch, 0.25, 1.25)
            left, top = self.uniform(batch, -1.2, 1.2, 2).unbind(1)
            size, angle, slim, left, top = (v.view(-1, 1, 1, 1) for v in (size, angle, slim, left, top))
            along = ((x - left) * angle.cos() + (y - top) * angle.sin()) / size
            across = ((y - top) * angle.cos() - (x - left) * angle.sin()) / (size * slim)
            power = torch.where(self.chance(batch, 0.6), 2.0, 8.0).view(-1, 1, 1, 1)
            shade = 1 + self.uniform(batch, -0.25, 0.25).view(-1, 1, 1, 1) * along
            inside = along.abs() ** power + across.abs() ** power < 1
            images = torch.where(inside, (self._colors(batch) * shade).clamp(0, 1), images)
        return images

    def smooth_noise(self, batch: int, channels: int, coarse: int) -> Tensor:
        """Normal noise in blobs of a `coarse`-th of the side: [B, channels, S, S]."""
        noise = torch.randn(batch, channels, coarse, coarse, device=self.device)
        return F.interpolate(noise, self.side, mode="bicubic", align_corners=False)

    def _colors(self, batch: int) -> Tensor:
        """Any color, a pale one or a gray: [B, 3, 1, 1]."""
        color, kind = self.uniform(batch, 0, 1, 3), self.uniform(batch, 0, 1)[:, None]
        pale, gray = 1 - 0.35 * color, color[:, :1].expand_as(color)
        return torch.where(kind < 0.4, color, torch.where(kind < 0.8, pale, gray))[:, :, None, None]

    def _any(self, batch: int) -> Tensor:
        """Numbers of drawings, [B]."""
        return self.numbers[torch.randint(len(self.numbers), (batch,), device=self.device)]

    def uniform(self, batch: int, low: float, high: float, *shape: int) -> Tensor:
        """[B, *shape]"""
        return torch.rand(batch, *shape, device=self.device) * (high - low) + low

    def chance(self, batch: int, share: float) -> Tensor:
        """True for about a share of the batch: [B] bool."""
        return self.uniform(batch, 0, 1) < share


def place(drawings: Tensor, zoom: Tensor, angle: Tensor, shift: Tensor, mirror: Tensor) -> tuple[Tensor, Tensor]:
    """Drawings [B, 4, S, S] uint8 as large, turned and moved as asked: color [B, 3, S, S] and opacity [B, 1, S, S].

    Args:
        zoom, angle: [B]; 1 is as they are; radians.
        shift: [B, 2], right and down, in halves of the side.
        mirror: [B], -1 or 1.
    """
    rgb, alpha = (drawings.float() / 255).split([3, 1], 1)
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    right, down = (-shift / zoom[:, None]).unbind(1)
    matrix = torch.stack([cos * mirror, -sin, right, sin * mirror, cos, down], 1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, list(drawings.shape), align_corners=False)
    # premultiplied, or resampling bleeds hidden colors into the outline
    placed = F.grid_sample(torch.cat([rgb * alpha, alpha], 1), grid, align_corners=False)
    rgb, alpha = placed.split([3, 1], 1)
    return (rgb / alpha.clamp(min=1e-4)).clamp(0, 1), alpha


def turn_hue(images: Tensor, angle: Tensor) -> Tensor:
    """Images [B, 3, H, W] in 0..1 with their hue turned by an angle each, [B] in radians, in YIQ."""
    to_yiq = torch.tensor(YIQ, device=images.device)
    turn = torch.zeros(len(images), 3, 3, device=images.device)
    turn[:, 0, 0] = 1
    turn[:, 1, 1], turn[:, 1, 2] = angle.cos(), -angle.sin()
    turn[:, 2, 1], turn[:, 2, 2] = angle.sin(), angle.cos()
    matrix = torch.linalg.inv(to_yiq) @ turn @ to_yiq
    return torch.einsum("bij,bjhw->bihw", matrix, images).clamp(0, 1)


def on_white(drawings: Tensor) -> Tensor:
    """Drawings [B, 4, S, S] uint8 as they are, on white: [B, 3, S, S] in 0..1."""
    rgb, alpha = (drawings.float() / 255).split([3, 1], 1)
    return rgb * alpha + 1 - alpha


class WholeDrawings(Dataset):
    """Drawings [N, 4, S, S] uint8 as they are, on white: items as those of `folder.ImageViews`, `color` alone."""

    source = None

    def __init__(self, drawings: Tensor, config: DataConfig):
        self.drawings, self.config = drawings, config

    def __len__(self) -> int:
        return len(self.drawings)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        """`color` [3, S, S] in -1..1."""
        return {"color": on_white(self.drawings[key[1]][None])[0] * 2 - 1}
