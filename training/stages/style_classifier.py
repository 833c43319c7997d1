"""A small network that tells styles of drawings apart, to judge whether samples keep to the style asked for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import trange

SIDE = 64  # pixels
BATCH = 64
EPOCHS, MIN_STEPS = 3, 30


def train_style_classifier(images: Tensor, styles: Tensor, seed: int) -> nn.Module:
    """A classifier of images [N, 3, SIDE, SIDE] in 0..1 by styles [N] int64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = style_classifier(int(styles.max()) + 1)
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
        batch_size = min(BATCH, len(images))
        steps = max(MIN_STEPS, EPOCHS * len(images) // batch_size)
        for _ in trange(steps, desc="style classifier", disable=None):
            some = torch.randint(len(images), (batch_size,))
            batch = images[some]
            batch = torch.where(torch.rand(batch_size, 1, 1, 1) < 0.5, batch.flip(3), batch)
            loss = F.cross_entropy(model(batch), styles[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def style_classifier(styles: int) -> nn.Sequential:
    """Images [B, 3, SIDE, SIDE] in 0..1 to logits [B, styles]."""
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64), (64, 128), (128, 128)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.SiLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, styles))


@torch.inference_mode()
def styles_of(model: nn.Module, images: Tensor) -> Tensor:
    """The likeliest style of each image [B, 3, H, W] in 0..1, [B] int64."""
    return torch.cat([model(small(part)).argmax(1) for part in images.split(BATCH)])


def small(images: Tensor) -> Tensor:
    """Images [B, 3, H, W] as the classifier takes them."""
    return F.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
