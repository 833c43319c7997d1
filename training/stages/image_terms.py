"""What flat art needs of a reconstruction besides its distance pixel by pixel: lines, structure, color of areas.

Images are [B, 3, H, W] in -1..1, the reconstruction not clamped; every term is a scalar, 0 where both are equal.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.images.metrics import ssim
from ..config.runs import VQGANLossConfig

SCALES = 3  # of the gradients, each half as fine as the one before


def image_terms(weights: VQGANLossConfig, image: Tensor, reconstruction: Tensor, stride: int) -> dict[str, Tensor]:
    """The terms that have a weight, each times it, by name."""
    terms = {}
    if weights.gradients:
        terms["gradients"] = weights.gradients * gradient_difference(image, reconstruction)
    if weights.ssim:
        terms["ssim"] = weights.ssim * (1 - ssim(image, reconstruction).mean())
    if weights.cell_colors:
        terms["cell_colors"] = weights.cell_colors * cell_color_difference(image, reconstruction, stride)
    return terms


def gradient_difference(image: Tensor, reconstruction: Tensor) -> Tensor:
    """Mean absolute difference of the steps from pixel to pixel, both ways, added up over `SCALES` scales: where a line
    is and how sharp, which the mean error of a picture that is mostly ground hardly notices."""
    total = image.new_zeros(())
    for scale in range(SCALES):
        a, b = (F.avg_pool2d(x, 2**scale) for x in (image, reconstruction))
        for side in (2, 3):
            total = total + (a.diff(dim=side) - b.diff(dim=side)).abs().mean()
    return total


def cell_color_difference(image: Tensor, reconstruction: Tensor, stride: int) -> Tensor:
    """Mean absolute difference of the cells' mean colors, once in RGB and once on the opponent axes red-green and
    yellow-blue: left to itself a VQGAN learns the second of these long before the first."""
    error = F.avg_pool2d(reconstruction - image, stride)  # [B, 3, h, w]
    red, green, blue = error.unbind(1)
    opponent = torch.stack([red - green, (red + green) / 2 - blue], 1)
    return error.abs().mean() + opponent.abs().mean()
