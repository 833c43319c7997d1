"""The patch discriminator: judges overlapping patches of an image as real or made (section 3.1, arXiv eq. 5)."""

import torch.nn.functional as F
from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """PatchGAN with BatchNorm; each output value judges a patch of 70 x 70 pixels (at 3 layers).

    Module numbers inside `main` equal those of the released checkpoints.
    """

    def __init__(self, image_channels: int = 3, channels: int = 64, layers: int = 3):
        super().__init__()
        modules = [nn.Conv2d(image_channels, channels, 4, 2, 1), nn.LeakyReLU(0.2)]
        width = channels
        for i in range(1, layers + 1):
            wider = channels * min(2**i, 8)
            stride = 2 if i < layers else 1
            modules += [nn.Conv2d(width, wider, 4, stride, 1, bias=False), nn.BatchNorm2d(wider)]
            modules += [nn.LeakyReLU(0.2)]
            width = wider
        modules.append(nn.Conv2d(width, 1, 4, 1, 1))
        self.main = nn.Sequential(*modules)
        self.apply(initialize)

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
