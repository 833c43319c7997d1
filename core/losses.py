"""Losses of the first stage besides the codebook's own: perceptual distance and adaptive weight (3.1.1)."""

import torch
from torch import Tensor, nn

from .discriminator import PatchDiscriminator

ADAPTIVE_LIMIT = 1e4  # clamp of lambda in the original


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
            f"LPIPS can't be had here ({reason}); install lpips, and connect once so that torchvision can fetch the "
            "VGG16 weights (528 MB)"
        ) from error
    return network.eval().requires_grad_(False)


def feature_matching(discriminator: PatchDiscriminator, image: Tensor, reconstruction: Tensor) -> Tensor:
    """Mean absolute difference of discriminator features, averaged over its layers: a perceptual
    distance that needs no foreign weights. Pictures [B, C, H, W] in -1..1 -> scalar."""
    with torch.no_grad():
        wanted = discriminator.features(image)
    found = discriminator.features(reconstruction)
    return torch.stack([(a - b).abs().mean() for a, b in zip(wanted, found, strict=True)]).mean()


def adaptive_weight(nll: Tensor, adversarial: Tensor, last_layer: Tensor, scale: float = 0.8) -> Tensor:
    """lambda: how strongly the adversarial loss may pull, so that both losses move the decoder alike.

    scale * clamp(|grad nll| / (|grad adversarial| + 1e-4), 0, 1e4), gradients taken at `last_layer`,
    the weight of the decoder's last convolution.
    """
    nll_gradient = torch.autograd.grad(nll, last_layer, retain_graph=True)[0]
    adversarial_gradient = torch.autograd.grad(adversarial, last_layer, retain_graph=True)[0]
    ratio = nll_gradient.norm() / (adversarial_gradient.norm() + 1e-4)
    return scale * ratio.clamp(0, ADAPTIVE_LIMIT).detach()
