"""Bundles, condition VQGANs and priors as model files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from torch import Tensor

from .autoencoders.vqgan import VQGAN
from .autoencoders.vqgan_file import build_vqgan, codes_fingerprint, vqgan_part
from .bundle import Bundle
from .conditions.config import ConditionConfig
from .conditions.kinds import KINDS
from .priors.transformer import Transformer, TransformerConfig
from .storage.model_file import (
    ModelFile,
    build_empty,
    config_from,
    load_part,
    part_config,
    read_model_file,
    write_model_file,
)


def save_bundle(path: str | Path, bundle: Bundle, **metadata: Any) -> None:
    """Write a bundle; `metadata` (half, license, trained_on) as for `write_model_file`.

    A VQGAN that encodes its own condition, as super-resolution's may, is written once.
    """
    config, parts = {}, {}
    config["vqgan"], parts["vqgan"] = vqgan_part(bundle.vqgan)
    config["prior"], parts["prior"] = prior_part(bundle.prior)
    config["condition"] = dataclasses.asdict(bundle.condition_config)
    if bundle.condition_vqgan is not None and bundle.condition_vqgan is not bundle.vqgan:
        config["condition_vqgan"], parts["condition"] = vqgan_part(bundle.condition_vqgan)
    write_model_file(path, "bundle", config, parts, **metadata)


def load_bundle(path: str | Path) -> Bundle:
    """Read a bundle, ready for use; errors as `read_model_file`."""
    file = read_model_file(path)
    condition = config_from(ConditionConfig, part_config(file, "condition"), file.path.name)
    vqgan, prior = build_vqgan(file, "vqgan", part_config(file, "vqgan")), build_prior(file)
    condition_vqgan = None
    if KINDS[condition.kind].has_vqgan:
        condition_vqgan = vqgan if encodes_itself(file) else build_condition_vqgan(file)
    return make_bundle(file.path.name, vqgan, prior, condition, condition_vqgan)


def make_bundle(
    name: str, vqgan: VQGAN, prior: Transformer, condition: ConditionConfig, condition_vqgan: VQGAN | None
) -> Bundle:
    """A bundle of what the file `name` holds; ValueError, naming it, where the parts don't belong together."""
    try:
        return Bundle(vqgan, prior, condition, condition_vqgan)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def read_condition_vqgan(path: str | Path) -> VQGAN:
    """The condition's VQGAN of a bundle, or the VQGAN of a "vqgan" file; errors as `read_model_file`."""
    file = read_model_file(path)
    if file.kind == "vqgan" or encodes_itself(file):
        return build_vqgan(file, "vqgan", part_config(file, "vqgan"))
    return build_condition_vqgan(file)


def encodes_itself(file: ModelFile) -> bool:
    """True for a bundle of super-resolution whose only VQGAN encodes the small pictures too."""
    return "condition_vqgan" not in file.config and file.config.get("condition", {}).get("kind") == "low-resolution"


def build_condition_vqgan(file: ModelFile) -> VQGAN:
    """The VQGAN that a bundle has for its condition alone."""
    return build_vqgan(file, "condition", part_config(file, "condition_vqgan"))


def prior_part(prior: Transformer) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and tensors of a prior."""
    return dataclasses.asdict(prior.config), prior.state_dict()


def stage_fingerprints(vqgan: VQGAN, condition_vqgan: VQGAN | None) -> dict[str, str]:
    """Which codes a prior learns, by the stage that makes them."""
    stages = {"vqgan": vqgan, "condition_vqgan": condition_vqgan}
    return {name: codes_fingerprint(stage) for name, stage in stages.items() if stage is not None}


def check_stages(name: str, learned: dict[str, str], files: dict[str, str | Path], found: dict[str, str]) -> None:
    """ValueError where a prior was trained on the codes of other stages than those found.

    Args:
        name: of the prior, for the message.
        learned, found: `stage_fingerprints`; what an older file does not say of itself is not checked.
        files: where each stage was found.
    """
    for stage, value in learned.items():
        if stage in found and found[stage] != value:
            raise ValueError(
                f"{name} was trained on the codes of another {stage} than {files[stage]}, whose codes mean something "
                "else; give the one it was trained with, or start_from a bundle that holds both to carry it over"
            )


def save_prior(
    path: str | Path,
    prior: Transformer,
    condition: ConditionConfig,
    stages: dict[str, str] | None = None,
    **metadata: Any,
) -> None:
    """Write a prior, what guides it and the `stage_fingerprints` of its stages as a file of kind "prior"."""
    config, tensors = prior_part(prior)
    config = {"prior": config, "condition": dataclasses.asdict(condition), "stages": stages or {}}
    write_model_file(path, "prior", config, {"prior": tensors}, **metadata)


def build_prior(file: ModelFile) -> Transformer:
    """The prior that a file holds."""
    config = config_from(TransformerConfig, part_config(file, "prior"), file.path.name)
    prior = build_empty(Transformer, config, file.path.name)
    load_part(prior, file, "prior")
    return prior


def load_prior(path: str | Path) -> Transformer:
    """The prior of a "prior" or "bundle" file, ready for use; errors as `read_model_file`."""
    return build_prior(read_model_file(path))
