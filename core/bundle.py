"""A bundle: everything from a condition picture to a new picture, in one file.

picture --condition VQGAN--> prefix --prior--> canvas --VQGAN--> picture
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from .canvas import Canvas
from .conditioning import ImageCondition, NoCondition
from .image import check_images
from .model_file import (
    ModelFile,
    build_vqgan,
    config_from,
    load_part,
    part_config,
    read_model_file,
    vqgan_part,
    write_model_file,
)
from .transformer import Transformer, TransformerConfig
from .vqgan import VQGAN

ConditionKind = Literal["edges", "none"]


@dataclass(frozen=True)
class Bundle:
    """Models that belong together.

    condition_vqgan: for the kinds that are pictures; None for the others.
    """

    vqgan: VQGAN
    prior: Transformer
    condition_kind: ConditionKind
    condition_vqgan: VQGAN | None

    def __post_init__(self):
        codes, prior_codes = self.vqgan.config.codebook_size, self.prior.config.codebook_size
        own = self.condition_vqgan.config.codebook_size if self.condition_vqgan else 1
        if codes != prior_codes or codes + own != self.prior.config.vocab_size:
            raise ValueError(
                f"the prior speaks of {prior_codes} codes and {self.prior.config.vocab_size - prior_codes} of the "
                f"condition, the VQGANs have {codes} and {own}; use the files it was trained with"
            )

    def condition(self, pictures: Tensor | None = None) -> ImageCondition | NoCondition:
        """What guides a sample.

        Args:
            pictures: [B, 1 or 3, H, W] in -1..1, for a bundle of kind "edges" white lines on black; sides
                multiples of the condition's stride. None for an unconditional bundle.
        Raises:
            ValueError: a picture too many or too few, or one that can't be used.
        """
        own_token = self.vqgan.config.codebook_size  # the prefix speaks in rows after those of the codes
        if self.condition_vqgan is None:
            if pictures is not None:
                raise ValueError("this bundle's prior takes no condition picture; leave it out")
            return NoCondition(own_token)
        if pictures is None:
            raise ValueError(f"this bundle's prior is guided by {self.condition_kind}; give a picture")
        check_images(pictures, "the condition picture")
        pictures = pictures.mean(1, keepdim=True).expand(-1, self.condition_vqgan.config.image_channels, -1, -1)
        height, width = (side // self.vqgan.config.stride for side in pictures.shape[-2:])
        return ImageCondition(self.condition_vqgan.encode_indices(pictures), (height, width), own_token)

    def empty_canvas(self, batch: int) -> Canvas:
        """A canvas of one window, all unknown."""
        side = self.prior.config.window
        return Canvas.empty(batch, side, side)

    @torch.inference_mode()
    def decode(self, canvas: Canvas) -> Tensor:
        """Canvas of [B, h, w] cells -> pictures [B, 3, H, W], clamped to -1..1."""
        device = self.vqgan.post_quant_conv.weight.device
        return self.vqgan.decode_indices(canvas.indices.to(device)).clamp(-1, 1)


def save_bundle(path: str | Path, bundle: Bundle, **metadata: Any) -> None:
    """Write a bundle; `metadata` (half, license, trained_on) as for `write_model_file`."""
    config, parts = {}, {}
    config["vqgan"], parts["vqgan"] = vqgan_part(bundle.vqgan)
    config["prior"], parts["prior"] = prior_part(bundle.prior)
    config["condition"] = {"kind": bundle.condition_kind}
    if bundle.condition_vqgan is not None:
        config["condition"]["vqgan"], parts["condition"] = vqgan_part(bundle.condition_vqgan)
    write_model_file(path, "bundle", config, parts, **metadata)


def load_bundle(path: str | Path) -> Bundle:
    """Read a bundle, ready for use; errors as `read_model_file`."""
    file = read_model_file(path)
    condition = part_config(file, "condition")
    kind = condition.get("kind")
    if kind not in get_args(ConditionKind):
        raise ValueError(f"{file.path.name} has a condition of kind {kind!r}, which this version lacks; update Tessera")
    condition_vqgan = build_vqgan(file, "condition", condition["vqgan"]) if "vqgan" in condition else None
    return Bundle(build_vqgan(file, "vqgan", part_config(file, "vqgan")), build_prior(file), kind, condition_vqgan)


def load_condition_vqgan(path: str | Path) -> VQGAN:
    """The condition's VQGAN of a bundle, or the VQGAN of a "vqgan" file; errors as `read_model_file`."""
    file = read_model_file(path)
    if file.kind == "vqgan":
        return build_vqgan(file, "vqgan", part_config(file, "vqgan"))
    condition = part_config(file, "condition")
    if "vqgan" not in condition:
        raise ValueError(f"{file.path.name} has no condition VQGAN: its prior takes no picture; choose another file")
    return build_vqgan(file, "condition", condition["vqgan"])


def prior_part(prior: Transformer) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and tensors of a prior."""
    return dataclasses.asdict(prior.config), prior.state_dict()


def save_prior(path: str | Path, prior: Transformer, **metadata: Any) -> None:
    """Write a prior as a file of kind "prior"."""
    config, tensors = prior_part(prior)
    write_model_file(path, "prior", {"prior": config}, {"prior": tensors}, **metadata)


def build_prior(file: ModelFile) -> Transformer:
    """The prior that a file holds."""
    with torch.device("meta"):
        prior = Transformer(config_from(TransformerConfig, part_config(file, "prior"), file.path.name))
    prior.to_empty(device="cpu")
    load_part(prior, file, "prior")
    return prior


def load_prior(path: str | Path) -> Transformer:
    """The prior of a "prior" or "bundle" file, ready for use; errors as `read_model_file`."""
    return build_prior(read_model_file(path))
