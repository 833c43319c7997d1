"""A small network that tells styles of drawings apart, to judge whether samples keep to the style asked for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import trange

SIDE = 128  # pixels
BATCH = 64
EPOCHS, MIN_STEPS = 16, 30
RATE = 3e-3
SOFTEST = 2.5  # how many times as small a drawing is made before it is learned, at most
SHIFT = 8  # pixels that it is moved at most


def train_style_classifier(images: Tensor, styles: Tensor, seed: int) -> nn.Module:
    """A classifier of images [N, 3, SIDE, SIDE], 0..255 in bytes, by styles [N] int64.

    Half of what it learns is softened: what a first stage decodes is a little soft, and a style is more than crispness.
    It learns in bfloat16, which halves the time.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = style_classifier(int(styles.max()) + 1).to(memory_format=torch.channels_last)
        batch_size = min(BATCH, len(images))
        steps = max(MIN_STEPS, EPOCHS * len(images) // batch_size)
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
        for _ in trange(steps, desc="style classifier", disable=None):
            some = torch.randint(len(images), (batch_size,))
            learned = varied(images[some] / 255).to(memory_format=torch.channels_last)
            with torch.autocast(learned.device.type, torch.bfloat16):
                logits = model(learned)
            loss = F.cross_entropy(logits.float(), styles[some], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def varied(images: Tensor) -> Tensor:
    """Images [B, 3, SIDE, SIDE] as they are learned: all moved alike, some mirrored, half of them softened."""
    batch = len(images)
    images = images.roll(torch.randint(-SHIFT, SHIFT + 1, (2,)).tolist(), (2, 3))
    images = torch.where(torch.rand(batch, 1, 1, 1) < 0.5, images.flip(3), images)
    coarse = round(SIDE / (1 + (SOFTEST - 1) * float(torch.rand(()))))
    soft = F.interpolate(images[: batch // 2], (coarse, coarse), mode="bilinear", antialias=True)
    soft = F.interpolate(soft, (SIDE, SIDE), mode="bicubic").clamp(0, 1)
    return torch.cat([soft, images[batch // 2 :]])


def style_classifier(styles: int) -> nn.Sequential:
    """Images [B, 3, SIDE, SIDE] in 0..1 to logits [B, styles]."""
    layers: list[nn.Module] = []
    for before, after, stride in ((3, 32, 2), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2)):
        layers += [nn.Conv2d(before, after, 3, stride, padding=1), nn.BatchNorm2d(after), nn.SiLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, styles))


@torch.inference_mode()
def styles_of(model: nn.Module, images: Tensor) -> Tensor:
    """The likeliest style of each image [B, 3, H, W] in 0..1, [B] int64."""
    return torch.cat([model(small(part)).argmax(1) for part in images.split(BATCH)])


def small(images: Tensor) -> Tensor:
    """Images [B, 3, H, W] as the classifier takes them."""
    return F.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
