"""The patch discriminator judges overlapping patches of an image as real or made (section 3.1, arXiv eq. 5); the losses
that it gives a first stage: perceptual distance and adaptive weight (arXiv eq. 7)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ADAPTIVE_LIMIT = 1e4  # clamp of lambda in the original
MAX_LAYERS = 8


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Everything that decides a discriminator's shape. ValueError for values that none can be built from."""

    image_channels: int = 3
    channels: int = 64  # of its first layer
    layers: int = 3

    def __post_init__(self):
        if min(vars(self).values()) < 1 or self.layers > MAX_LAYERS:
            raise ValueError(f"a discriminator of {vars(self)} can't be built; choose 1 to {MAX_LAYERS} layers")

    @property
    def smallest(self) -> int:
        """Pixels a side of the smallest image of which there is something to judge."""
        return 3 * 2**self.layers


class PatchDiscriminator(nn.Module):
    """PatchGAN with BatchNorm; each output value judges a patch of 70 x 70 pixels (at 3 layers).

    Module numbers inside `main` equal those of the released checkpoints.
    """

    def __init__(self, config: DiscriminatorConfig):
        super().__init__()
        self.config = config
        width = config.channels
        modules = [nn.Conv2d(config.image_channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for i in range(1, config.layers + 1):
            wider = config.channels * min(2**i, 8)
            stride = 2 if i < config.layers else 1
            modules += [nn.Conv2d(width, wider, 4, stride, 1, bias=False), nn.BatchNorm2d(wider)]
            modules += [nn.LeakyReLU(0.2)]
            width = wider
        modules.append(nn.Conv2d(width, 1, 4, 1, 1))
        self.main = nn.Sequential(*modules)
        self.apply(initialize)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def forward(self, image: Tensor) -> Tensor:
        """[B, C, H, W] in -1..1 -> logits [B, 1, h', w'], positive where it believes the patch is real."""
        return self.main(image)

    def features(self, image: Tensor) -> list[Tensor]:
        """Activations after each LeakyReLU, from fine to coarse; compared by the feature-matching loss."""
        found = []
        for module in list(self.main)[:-1]:
            image = module(image)
            if isinstance(module, nn.LeakyReLU):
                found.append(image)
        return found


def initialize(module: nn.Module) -> None:
    """Convolutions normal(0, 0.02), BatchNorm weights normal(1, 0.02), as in the original."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def hinge_loss(real_logits: Tensor, made_logits: Tensor) -> Tensor:
    """What the discriminator minimizes: the hinge form of arXiv eq. 5, as the released models were trained."""
    return 0.5 * (F.relu(1 - real_logits).mean() + F.relu(1 + made_logits).mean())


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
