"""How well images and words go together by CLIP, and classification by the names of classes alone.

A CLIP that guided an image is no judge of it: the image was made to please it. Score with another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .encoder import CLIP
from .model import ClipModel

TEMPLATES = (  # seven that do as well as the 80 of Radford et al. (openai/CLIP, notebooks/Prompt_Engineering)
    "itap of a {}.", "a bad photo of the {}.", "a origami {}.", "a photo of the large {}.", "a {} in a video game.",
    "art of the {}.", "a photo of the small {}.",
)  # fmt: skip
IMAGES_AT_ONCE = 32


class Ranking(NamedTuple):
    """Classes for images, best first."""

    classes: Tensor  # [B, n] int64 into the names
    probabilities: Tensor  # [B, n] in the same order


def prepare_images(images: Tensor, size: int) -> Tensor:
    """The middle square at CLIP's resolution: [B, 3, H, W] in 0..1 -> [B, 3, size, size]."""
    height, width = images.shape[2:]
    scale = size / min(height, width)
    resized = (max(size, round(height * scale)), max(size, round(width * scale)))
    images = F.interpolate(images, resized, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = ((side - size) // 2 for side in resized)
    return images[:, :, top : top + size, left : left + size]


@torch.no_grad()
def embed_images(clip: CLIP, images: Tensor) -> Tensor:
    """Unit vectors of images of any size: [B, 3, H, W] in 0..1 -> [B, E]."""
    size = clip.config.image_size
    parts = images.split(IMAGES_AT_ONCE)
    return torch.cat([clip.encode_image(prepare_images(part.to(clip.device), size)) for part in parts])


@torch.no_grad()
def embed_texts(model: ClipModel, texts: Sequence[str]) -> Tensor:
    """Unit vectors of texts, [n, E]; ValueError for an empty one."""
    if not texts or not all(text.strip() for text in texts):
        raise ValueError("a text is empty; describe the picture in a few words")
    return model.clip.encode_text(model.tokenizer(list(texts)).to(model.clip.device))


def score_texts(model: ClipModel, images: Tensor, texts: Sequence[str]) -> Tensor:
    """Cosines of images [B, 3, H, W] in 0..1 and texts: [B, n] in -1..1; 0.2 to 0.35 is a good match for ViT-B/32."""
    return embed_images(model.clip, images) @ embed_texts(model, texts).t()


def score_images(clip: CLIP, images: Tensor, references: Tensor) -> Tensor:
    """Cosines of images and references, both [., 3, H, W] in 0..1: [B, n]."""
    return embed_images(clip, images) @ embed_images(clip, references).t()


def clip_score(cosines: Tensor) -> Tensor:
    """CLIPScore, 100 * max(cosine, 0) (Hessel et al. 2021, arXiv:2104.08718, as torchmetrics scales it)."""
    return 100 * cosines.clamp(min=0)


def embed_classes(model: ClipModel, names: Sequence[str], templates: Sequence[str] = TEMPLATES) -> Tensor:
    """One unit vector for each class, the mean over templates with `{}` for the name: [n, E].

    Raises:
        ValueError: fewer than two names, an empty one, or a template without `{}`.
    """
    if len(names) < 2 or not all(name.strip() for name in names):
        raise ValueError("give at least two class names, none of them empty")
    if not templates or not all("{}" in template for template in templates):
        raise ValueError("every template needs {} where the class name goes")
    means = [embed_texts(model, [t.replace("{}", name) for t in templates]).mean(0) for name in names]
    return F.normalize(torch.stack(means), dim=1)


def classify(model: ClipModel, images: Tensor, classes: Tensor) -> Ranking:
    """Zero-shot classification: images [B, 3, H, W] in 0..1 among `embed_classes` [n, E]."""
    logits = model.clip.scale.detach() * embed_images(model.clip, images) @ classes.t()
    probabilities, order = logits.softmax(1).sort(1, descending=True)
    return Ranking(order, probabilities)
