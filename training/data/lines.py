"""Lines of images, found on the training device, and made as photographs and hands give them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .scenes import Painter

LOW, HIGH = 50.0, 120.0
GRAY = (0.299, 0.587, 0.114)
HYSTERESIS = 12  # pixels that a line is followed from where it is strong
TAN_22, TAN_67 = 0.41421356, 2.41421356  # tangents of the borders between the four directions


def find_lines(images: Tensor, low: Tensor | float = LOW, high: Tensor | float = HIGH, blur: float = 2.0) -> Tensor:
    """Canny edges of images [B, 3, H, W] in 0..1: [B, 1, H, W], 1 on a line.

    As OpenCV's, but for lines followed `HYSTERESIS` pixels at most: blur, length of Sobel's gradient, the
    ridges of it (non-maximum suppression), and of these what is above `low` and hangs together with what is above
    `high`, numbers or [B, 1, 1, 1] for gray levels in 0..255.
    """
    gray = (images * torch.tensor(GRAY, device=images.device).view(1, 3, 1, 1)).sum(1, keepdim=True) * 255
    padded = F.pad(gaussian_blur(gray, blur), (1, 1, 1, 1), mode="replicate")
    sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=images.device).view(1, 1, 3, 3)
    across, along = F.conv2d(padded, sobel), F.conv2d(padded, sobel.mT)
    strength = torch.hypot(across, along)
    before, after = neighbors_of_ridge(strength, across, along)
    ridge = (strength > before) & (strength >= after)
    weak, lines = (ridge & (strength > low)).float(), (ridge & (strength > high)).float()
    for _ in range(HYSTERESIS):
        lines = F.max_pool2d(lines, 3, 1, 1) * weak
    return lines


def neighbors_of_ridge(strength: Tensor, across: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
    """The two neighbors [B, 1, H, W] of each pixel that lie in the direction of its gradient."""
    height, width = strength.shape[2:]
    smoothed = F.pad(strength, (1, 1, 1, 1))

    def shifted(down: int, right: int) -> Tensor:
        return smoothed[:, :, 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    level = along.abs() < across.abs() * TAN_22
    upright = along.abs() > across.abs() * TAN_67
    falling = across * along >= 0
    pairs = []
    for sign in (-1, 1):
        diagonal = torch.where(falling, shifted(sign, sign), shifted(sign, -sign))
        pairs.append(torch.where(level, shifted(0, sign), torch.where(upright, shifted(sign, 0), diagonal)))
    return pairs[0], pairs[1]


def gaussian_blur(gray: Tensor, sigma: float) -> Tensor:
    """[B, 1, H, W], with the border repeated; 0 leaves it as it is."""
    if sigma == 0:
        return gray
    reach = round(3 * sigma)
    distance = torch.arange(-reach, reach + 1, device=gray.device)
    weights = torch.softmax(-(distance.float() ** 2) / (2 * sigma**2), 0)
    padded = F.pad(gray, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(padded, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))


def varied_lines(images: Tensor, painter: Painter) -> Tensor:
    """Lines of images [B, 3, H, W] in 0..1, many or few, half of them as they are, the others thick, shaky as drawn by
    hand, or doubled; of some, parts are missing: [B, 1, H, W], 0 or 1.

    Args:
        painter: whose random numbers decide.
    """
    batch, _, height, width = images.shape

    def each(low: float, high: float) -> Tensor:
        return painter.uniform(batch, low, high).view(-1, 1, 1, 1)

    few = each(-0.8, 0.8).exp()
    lines = find_lines(images, LOW * few, HIGH * few, (1.0, 1.5, 2.0, 2.0, 2.5)[int(painter.uniform(1, 0, 5))])
    thick = F.max_pool2d(lines, 3, 1, 1)
    line = torch.linspace(-1, 1, height, device=images.device), torch.linspace(-1, 1, width, device=images.device)
    down, right = torch.meshgrid(*line, indexing="ij")
    shake = (painter.smooth_noise(batch, 2, 12) * each(0.004, 0.02)).movedim(1, -1)
    shaky = F.grid_sample(thick, torch.stack([right, down], -1) + shake, mode="nearest", align_corners=True)
    doubled = torch.maximum(lines, lines.roll((2, 3), (2, 3)))
    kind = each(0, 1)
    lines = torch.where(kind < 0.5, lines, torch.where(kind < 0.65, thick, torch.where(kind < 0.9, shaky, doubled)))
    missing = (painter.smooth_noise(batch, 1, 24) > each(0.8, 2.3)) & (each(0, 1) < 0.4)
    return torch.where(missing, torch.zeros_like(lines), lines)
