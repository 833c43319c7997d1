"""Cheap numbers that say how alike two images are."""

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .lpips import PerceptualLossUnavailable, lpips

PERCENTS = 101  # from 0 to 100


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each image pair, [B, C, H, W] in -1..1 -> [B]."""
    error = (a.clamp(-1, 1) - b.clamp(-1, 1)).square().flatten(1).mean(1)
    return 10 * torch.log10(4 / error.clamp(min=1e-10))  # the range -1..1 has peak 2


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004: 11-pixel Gaussian, sigma 1.5), [B, C, H, W] -> [B], 1 = equal."""
    a, b = (a.clamp(-1, 1) + 1) / 2, (b.clamp(-1, 1) + 1) / 2
    channels = a.shape[1]
    position = torch.arange(11, device=a.device, dtype=a.dtype) - 5
    line = torch.exp(-position.square() / (2 * 1.5**2))
    line = line / line.sum()
    kernel = (line[:, None] * line).expand(channels, 1, 11, 11)

    def local_mean(x: Tensor) -> Tensor:
        return F.conv2d(x, kernel, groups=channels)

    mean_a, mean_b = local_mean(a), local_mean(b)
    variance_a = local_mean(a * a) - mean_a.square()
    variance_b = local_mean(b * b) - mean_b.square()
    covariance = local_mean(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    similarity = similarity / ((mean_a.square() + mean_b.square() + c1) * (variance_a + variance_b + c2))
    return similarity.flatten(1).mean(1)


def perceptual_comparison(a: Tensor, b: Tensor) -> tuple[float, str]:
    """Mean LPIPS of a batch and how to say it; not a number, and why, where it can't be had. Arguments as `lpips`."""
    try:
        distance = float(lpips(a, b).mean())
    except (PerceptualLossUnavailable, ValueError) as error:
        return math.nan, str(error)
    return distance, f"LPIPS {distance:.3f}"


def code_agreement(a: Tensor, b: Tensor) -> Tensor:
    """Share of cells with the same code in each pair of images: indices [B, h, w] each -> [B] in 0..1."""
    return (a == b).float().flatten(1).mean(1)


def edge_agreement(a: Tensor, b: Tensor, within: float = 2.0) -> Tensor:
    """How well the lines of two edge images lie on one another: F1 of the shares of each that have the other near.

    Args:
        a, b: [B, 1, H, W] in -1..1, bright on lines.
        within: pixels that count as near.
    Returns:
        [B] in 0..1; 1 where neither has lines.
    """
    return torch.tensor(
        [line_f1(*pair, within) for pair in zip((a[:, 0] > 0).cpu().numpy(), (b[:, 0] > 0).cpu().numpy(), strict=True)]
    )


def line_f1(a: np.ndarray, b: np.ndarray, within: float) -> float:
    """`edge_agreement` of two masks [H, W]."""
    if not a.any() or not b.any():
        return float(a.any() == b.any())
    to_a, to_b = (cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5) for mask in (a, b))
    precision, recall = (to_b[a] <= within).mean(), (to_a[b] <= within).mean()
    return float(2 * precision * recall / max(precision + recall, 1e-9))


def check_alike(a: Tensor, b: Tensor, what: str) -> None:
    """Raise ValueError unless two batches of images or canvases have one shape."""
    if a.shape != b.shape:
        raise ValueError(
            f"{what} a has shape {tuple(a.shape)} and b {tuple(b.shape)}; make them one size and as many of each"
        )


def percentiles(scores: Tensor) -> Tensor:
    """The table that says how many of a hundred score below: [n] -> [101], ascending, the least to the largest."""
    return torch.quantile(scores.float(), torch.linspace(0, 1, PERCENTS, device=scores.device))
