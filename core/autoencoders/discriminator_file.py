"""A patch discriminator as a model file, with what the reconstructions of real images reach: a judge of realism."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..storage.model_file import (
    build_empty,
    config_from,
    load_part,
    part_config,
    read_model_file,
    table_from,
    write_model_file,
)
from .discriminator import DiscriminatorConfig, PatchDiscriminator

IMAGES_AT_ONCE = 8
COUNTS = "num_batches_tracked"  # of BatchNorm, which matters to no judgement


class Realism(NamedTuple):
    """A discriminator and, where it is known, what it says of reconstructions of real images.

    reconstructions: scores [101], ascending, that 0, 1, ... 100 of a hundred held-out reconstructions don't pass.
    """

    discriminator: PatchDiscriminator
    reconstructions: Tensor | None = None


@torch.no_grad()
def score_realism(discriminator: PatchDiscriminator, images: Tensor) -> Tensor:
    """Mean logit of the patches of each image, on its device; higher is more like the real ones.

    Args:
        images: [B, C, H, W] in -1..1, at least `smallest` pixels a side.
    Returns:
        [B].
    Raises:
        ValueError: too small, or another number of channels.
    """
    config, device = discriminator.config, discriminator.device
    if images.shape[1] != config.image_channels or min(images.shape[2:]) < config.smallest:
        raise ValueError(
            f"the pictures are {images.shape[1]} x {images.shape[2]} x {images.shape[3]}; this discriminator judges "
            f"{config.image_channels} channels of at least {config.smallest} pixels a side"
        )
    parts = images.split(IMAGES_AT_ONCE)
    return torch.cat([discriminator(part.to(device)).mean((1, 2, 3)) for part in parts])


def save_discriminator(path: str | Path, realism: Realism, **metadata: Any) -> None:
    """Write a file of kind "discriminator"; `metadata` as for `write_model_file`."""
    config: dict[str, Any] = {"discriminator": dataclasses.asdict(realism.discriminator.config)}
    if realism.reconstructions is not None:
        config["reconstructions"] = [round(score, 4) for score in realism.reconstructions.tolist()]
    state = realism.discriminator.state_dict()
    weights = {name: tensor for name, tensor in state.items() if not name.endswith(COUNTS)}
    write_model_file(path, "discriminator", config, {"discriminator": weights}, **metadata)


def open_discriminator(path: str | Path) -> Realism:
    """The discriminator of a "discriminator" file, ready for use; errors as `read_model_file`."""
    file = read_model_file(path)
    config = config_from(DiscriminatorConfig, part_config(file, "discriminator"), file.path.name)
    discriminator = build_empty(PatchDiscriminator, config, file.path.name)
    none = torch.zeros((), dtype=torch.int64)
    counts = {f"discriminator.{name}": none for name in discriminator.state_dict() if name.endswith(COUNTS)}
    load_part(discriminator, file._replace(tensors=file.tensors | counts), "discriminator")
    return Realism(discriminator, table_from(file.config.get("reconstructions"), file.path.name))
