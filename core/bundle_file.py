"""Bundles, condition VQGANs and priors as model files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .autoencoders.base import FirstStage
from .autoencoders.vqgan_file import build_vqgan, codes_fingerprint, vqgan_part
from .bundle import Bundle, Control
from .conditions.control import ControlARConfig, ControlAREncoder
from .conditions.kinds import KINDS, ConditionConfig
from .conditions.sketch import SketchConfig, SketchEncoder
from .conditions.vocabulary import Vocabulary, vocabulary_from
from .priors.base import Prior
from .priors.kinds import prior_kinds
from .storage.kinds import Kind, kind_name
from .storage.model_file import (
    ModelFile,
    build_empty,
    config_from,
    load_part,
    part_config,
    read_model_file,
    table_from,
    write_model_file,
)

CONTROL_KINDS: dict[str, Kind[Control]] = {
    "controlar": Kind("controlar", ControlAREncoder, ControlARConfig),
    "sketch": Kind("sketch", SketchEncoder, SketchConfig),
}


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
    if bundle.control is not None:
        config["control"], parts["control"] = control_part(bundle.control)
    if bundle.vocabulary is not None:
        config["vocabulary"] = dataclasses.asdict(bundle.vocabulary)
    if bundle.reached:
        config["reached"] = {name: [round(x, 6) for x in table.tolist()] for name, table in bundle.reached.items()}
    write_model_file(path, "bundle", config, parts, **metadata)


def load_bundle(path: str | Path, prior_dtype: torch.dtype = torch.float32) -> Bundle:
    """Read a bundle, ready for use; arguments and errors as `read_model_file`."""
    file = read_model_file(path, prior_dtype)
    condition = config_from(ConditionConfig, part_config(file, "condition"), file.path.name)
    vqgan, prior = build_vqgan(file, "vqgan", part_config(file, "vqgan")), build_prior(file)
    condition_vqgan = None
    if KINDS[condition.kind].has_vqgan:
        condition_vqgan = vqgan if encodes_itself(file) else build_condition_vqgan(file)
    control = build_control(file) if "control" in file.config else None
    reached = read_reached(file)
    return make_bundle(
        file.path.name, vqgan, prior, condition, condition_vqgan, control, build_vocabulary(file), reached
    )


def make_bundle(
    name: str,
    vqgan: FirstStage,
    prior: Prior,
    condition: ConditionConfig,
    condition_vqgan: FirstStage | None = None,
    control: Control | None = None,
    vocabulary: Vocabulary | None = None,
    reached: Mapping[str, Tensor] | None = None,
) -> Bundle:
    """A bundle of what the file `name` holds; ValueError, naming it, where the parts don't belong together."""
    try:
        return Bundle(vqgan, prior, condition, condition_vqgan, control, vocabulary, reached or {})
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def read_condition_vqgan(path: str | Path) -> FirstStage:
    """The condition's VQGAN of a bundle, or the VQGAN of a "vqgan" file; errors as `read_model_file`."""
    file = read_model_file(path)
    if file.kind == "vqgan" or encodes_itself(file):
        return build_vqgan(file, "vqgan", part_config(file, "vqgan"))
    return build_condition_vqgan(file)


def encodes_itself(file: ModelFile) -> bool:
    """True for a bundle of super-resolution whose only VQGAN encodes the small images too."""
    return "condition_vqgan" not in file.config and file.config.get("condition", {}).get("kind") == "low-resolution"


def build_condition_vqgan(file: ModelFile) -> FirstStage:
    """The VQGAN that a bundle has for its condition alone."""
    return build_vqgan(file, "condition", part_config(file, "condition_vqgan"))


def prior_part(prior: Prior) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and tensors of a prior; taming's transformer is the kind that needs no name."""
    kind = kind_name(prior_kinds(), prior)
    named = {} if kind == "transformer" else {"kind": kind}
    return named | dataclasses.asdict(prior.config), prior.state_dict()


def control_part(control: Control) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and tensors of what controls cells."""
    return {"kind": kind_name(CONTROL_KINDS, control)} | dataclasses.asdict(control.config), control.state_dict()


def stage_fingerprints(vqgan: FirstStage, condition_vqgan: FirstStage | None) -> dict[str, str]:
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
    prior: Prior,
    condition: ConditionConfig,
    stages: dict[str, str] | None = None,
    vocabulary: Vocabulary | None = None,
    **metadata: Any,
) -> None:
    """Write a prior, what guides it, the `stage_fingerprints` of its stages and the words it learned, if any, as a file
    of kind "prior"."""
    config, tensors = prior_part(prior)
    config = {"prior": config, "condition": dataclasses.asdict(condition), "stages": stages or {}}
    if vocabulary is not None:
        config["vocabulary"] = dataclasses.asdict(vocabulary)
    write_model_file(path, "prior", config, {"prior": tensors}, **metadata)


def build_prior(file: ModelFile) -> Any:
    """The prior that a file holds."""
    return _build_kind(file, "prior", prior_kinds(), "transformer")


def build_vocabulary(file: ModelFile) -> Vocabulary | None:
    """The words that a file holds, if it has any."""
    return vocabulary_from(file.config["vocabulary"], file.path.name) if "vocabulary" in file.config else None


def build_control(file: ModelFile) -> Any:
    """What controls cells in a file."""
    return _build_kind(file, "control", CONTROL_KINDS)


def read_reached(file: ModelFile) -> dict[str, Tensor]:
    """The tables of what real images reach that a file holds; ValueError where they are none."""
    tables = file.config.get("reached", {})
    if not isinstance(tables, dict):
        raise ValueError(f"{file.path.name}: its tables of scores are a {type(tables).__name__}; fetch it again")
    found = {str(name): table_from(numbers, file.path.name) for name, numbers in tables.items()}
    return {name: table for name, table in found.items() if table is not None}


def config_of_kind(values: Any, kinds: Mapping[str, Kind[Any]], default: str, name: str) -> tuple[type, Any]:
    """The module's class and the config of a part of the file `name` that says what kind it is of."""
    kind = values.get("kind", default) if isinstance(values, dict) else default
    if kind not in kinds:
        raise ValueError(f"{name} holds a model of kind {str(kind)[:40]!r}, not known here; update Tessera")
    if isinstance(values, dict):
        values = {key: value for key, value in values.items() if key != "kind"}
    return kinds[kind].module, config_from(kinds[kind].config, values, name)


def _build_kind(file: ModelFile, part: str, kinds: Mapping[str, Kind[Any]], default: str = "") -> Any:
    module, config = config_of_kind(part_config(file, part), kinds, default, file.path.name)
    built = build_empty(module, config, file.path.name)
    load_part(built, file, part)
    return built


def load_prior(path: str | Path) -> Any:
    """The prior of a "prior" or "bundle" file, ready for use; errors as `read_model_file`."""
    return build_prior(read_model_file(path))
