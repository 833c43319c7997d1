"""LPIPS, the perceptual distance."""

from functools import lru_cache

import torch
from torch import Tensor, nn


class PerceptualLossUnavailable(RuntimeError):
    """LPIPS can't be built here: the package or the weights of its VGG trunk are missing."""


def build_lpips() -> nn.Module:
    """LPIPS (VGG, version 0.1) from the `lpips` package, frozen: (x, y) [B, 3, H, W] in -1..1 -> [B, 1, 1, 1].

    Raises:
        PerceptualLossUnavailable: no package, or no network to fetch the VGG weights from.
    """
    try:
        import lpips

        network = lpips.LPIPS(net="vgg", verbose=False)
    except Exception as error:  # the package fails in many ways: import, download, hash, disk
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PerceptualLossUnavailable(
            f"LPIPS can't be had here ({reason}); install lpips, and go online once so that torchvision can fetch the "
            "VGG16 weights (528 MB)"
        ) from error
    return network.eval().requires_grad_(False)


MIN_LPIPS_SIDE = 16  # pixels a side, or nothing is left after VGG's poolings


lpips_network = lru_cache(1)(build_lpips)  # once; a failure is tried again


@torch.inference_mode()
def lpips(a: Tensor, b: Tensor) -> Tensor:
    """Perceptual distance (Zhang et al. 2018, VGG) of each image pair, [B, 3, H, W] in -1..1 -> [B], 0 = equal.

    The first call fetches the weights of VGG16 (528 MB) unless torchvision has them already.

    Raises:
        PerceptualLossUnavailable: no `lpips` package, or no way to its weights.
        ValueError: images too small for it.
    """
    if min(a.shape[-2:]) < MIN_LPIPS_SIDE:
        raise ValueError(
            f"LPIPS can't compare pictures of {a.shape[-1]}x{a.shape[-2]} pixels; give at least {MIN_LPIPS_SIDE} a side"
        )
    network = lpips_network().to(a.device)
    pairs = zip(a.clamp(-1, 1).split(1), b.clamp(-1, 1).split(1), strict=True)
    return torch.cat([network(one, other).flatten() for one, other in pairs])
