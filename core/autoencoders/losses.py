"""Losses of the first stage besides the codebook's own: perceptual distance and adaptive weight (arXiv eq. 7)."""

import torch
from torch import Tensor

from .discriminator import PatchDiscriminator

ADAPTIVE_LIMIT = 1e4  # clamp of lambda in the original


def feature_matching(discriminator: PatchDiscriminator, image: Tensor, reconstruction: Tensor) -> Tensor:
    """Mean absolute difference of discriminator features, averaged over its layers: a perceptual
    distance that needs no foreign weights. Images [B, C, H, W] in -1..1 -> scalar."""
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
