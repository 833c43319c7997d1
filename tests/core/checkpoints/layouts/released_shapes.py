"""The shapes of the released models, with fewer channels, for the tests that compare with the original."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from tessera.tests.core.checkpoints.layouts.original_layout import (
    fill,
    label_map,
    numbers,
    picture,
    prefixed,
    transformer_shapes,
    vqgan_shapes,
)

# arguments of `original_layout.vqgan_shapes`; f16 with K = 1024 is its default
FIRST_STAGES: dict[str, dict[str, Any]] = {
    "f16-1024": {},  # vqgan_imagenet_f16_1024, faceshq_vqgan, those of ffhq, celebahq, drin, sflckr, ade20k, WikiArt
    "f16-16384": {"codes": 16384},  # vqgan_imagenet_f16_16384, that of cin, WikiArt
    "f16-8192": {"codes": 8192},  # those of the scene images, COCO and Open Images
    # vqgan_gumbel_f8; the original's only works with as many latent channels as a code is wide
    "gumbel-f8": {"mult": (1, 1, 2, 4), "attention": (3,), "codes": 8192, "latent": 16, "gumbel": True},
    "depth": {"image_channels": 1},  # the condition of drin
    "segmentation-182": {"image_channels": 182, "labels": 182},  # of sflckr
    "segmentation-183": {"image_channels": 183, "labels": 183},  # of coco
    "segmentation-151": {"image_channels": 151, "labels": 151},  # of ade20k
    "ldm-f4": {"mult": (1, 2, 4), "attention": (), "codes": 8192, "latent": 3, "code_dim": 3},
    "ldm-f8": {"mult": (1, 2, 2, 4), "attention": (3,), "codes": 16384, "latent": 4, "code_dim": 4},
    "ldm-f8-256": {"mult": (1, 2, 2, 4), "attention": (3,), "codes": 256, "latent": 4, "code_dim": 4},
    "ldm-f16": {"codes": 16384, "latent": 8, "code_dim": 8},
}


def first_stage_input(name: str) -> Tensor:
    """What the first stage of that name is shown: [1, C, H, W], a picture in -1..1 or labels as 0 and 1."""
    classes = FIRST_STAGES[name].get("labels", 0)
    if classes:
        return F.one_hot(label_map(name, classes, 32, 48), classes).movedim(-1, 1).float()
    if name == "ldm-f4":  # three numbers a code: another picture would have cells between two codes
        return picture("ldm-f4 0", 1, 3, 24, 32)
    return picture(name, 1, FIRST_STAGES[name].get("image_channels", 3), 48, 64)


# arguments of `diffusers_layout.diffusers_shapes`
DIFFUSERS: dict[str, dict[str, Any]] = {
    "diffusers-f4": {},  # the first stage of latent diffusion's face pipelines
    "diffusers-f16": {"widths": (32, 32, 64, 64, 128), "attentive": (4,), "codes": 4096, "latent": 16},
}


def diffusers_input(name: str) -> Tensor:
    """A picture for the VQModel of that name, [1, 3, H, W] in -1..1."""
    return picture("ldm-f4 0", 1, 3, 24, 32) if name == "diffusers-f4" else picture(name, 1, 3, 48, 64)


# Second stages: kind of condition -> arguments of `original_layout.transformer_shapes`, tokens of the prefix,
# and the condition's own first stage; 16 heads as all released ones have
PRIORS: dict[str, dict[str, Any]] = {
    "depth": {"vocabulary": 1024, "block": 512, "prefix": 256, "stage": FIRST_STAGES["depth"]},
    "segmentation": {"vocabulary": 1024, "block": 512, "prefix": 256, "stage": FIRST_STAGES["segmentation-182"]},
    "coordinates": {"vocabulary": 1024, "block": 512, "prefix": 256},
    "class": {"vocabulary": 2048, "block": 257, "prefix": 1},
    "none": {"vocabulary": 1024, "block": 256, "prefix": 1},
    "layout": {"vocabulary": 2048, "block": 348, "prefix": 92},
}
SMALL = {"channels": 32, "mult": (1, 1, 1, 1, 1), "attention": (4,), "blocks": 1}  # first stages around them


def prior_state(kind: str, unmasked: int = 0) -> dict[str, Tensor]:
    """A Net2NetTransformer with that kind of condition, as its file names things."""
    prior = PRIORS[kind]
    block, vocabulary = prior["block"], prior["vocabulary"]
    shapes = prefixed("transformer", transformer_shapes(vocabulary=vocabulary, block=block, width=64))
    shapes |= prefixed("first_stage_model", vqgan_shapes(**SMALL, codes=vocabulary))
    if "stage" in prior:
        shapes |= prefixed("cond_stage_model", vqgan_shapes(**{**prior["stage"], **SMALL}))
    return fill(shapes, unmasked)


def tokens(kind: str, unmasked: int = 0) -> tuple[Tensor, Tensor]:
    """Prefix [2, P] and cells [2, 256], int64."""
    prior, name = PRIORS[kind], f"{kind} {unmasked}"
    prefix = numbers(f"{name} prefix", (2, prior["prefix"]), 0, prior["vocabulary"] - 0.5).long()
    return prefix, numbers(f"{name} cells", (2, 256), 0, prior["vocabulary"] - 0.5).long()
