"""A VQGAN, or another first stage, as a model file."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..storage.fingerprint import fingerprint
from ..storage.kinds import Kind, kind_name, kinds_of
from ..storage.model_file import (
    ModelFile,
    build_empty,
    config_from,
    load_part,
    part_config,
    read_model_file,
    write_model_file,
)
from .base import FirstStage


def first_stages() -> Mapping[str, Kind[FirstStage]]:
    """All kinds of first stage, by name."""
    return kinds_of(__package__)


DECODES = ("decoder.", "post_quant_conv.")  # of a VQGAN's tensors, those that don't decide its codes


def vqgan_part(model: FirstStage) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and tensors of a first stage for use; a VQGAN is the kind that needs no name. A moving-average codebook is
    stored as a plain one: it is used the same way, and its running sums matter to training only."""
    kind = kind_name(first_stages(), model)
    config = ({} if kind == "vqgan" else {"kind": kind}) | dataclasses.asdict(model.config)
    if config.get("codebook") == "ema":
        config["codebook"] = "nearest"
    return config, {n: t for n, t in model.state_dict().items() if ".ema_" not in n}


def codes_fingerprint(model: FirstStage) -> str:
    """Equal for first stages that make the same codes of an image: encoder and codebook count, the decoder does not.
    Of the weights in half precision, so that a file stored so holds the same model."""
    decides = {n: t.half() for n, t in vqgan_part(model)[1].items() if not n.startswith(DECODES)}
    rule = [model.config.normalize_codes, *(["product"] if model.config.codebook == "product" else [])]
    return fingerprint(*rule, *(part for pair in sorted(decides.items()) for part in pair))


def save_vqgan(path: str | Path, model: FirstStage, **metadata: Any) -> None:
    """Write a VQGAN as a file of kind "vqgan"; `metadata` as for `write_model_file`."""
    config, tensors = vqgan_part(model)
    write_model_file(path, "vqgan", {"vqgan": config}, {"vqgan": tensors}, **metadata)


def stage_of_config(values: Any, name: str) -> tuple[type, Any]:
    """The module's class and the config of a first stage of the file `name`."""
    kind = values.get("kind", "vqgan") if isinstance(values, dict) else "vqgan"
    if kind not in first_stages():
        raise ValueError(f"{name} holds a first stage of kind {str(kind)[:40]!r}, not known here; update Tessera")
    if isinstance(values, dict):
        values = {key: value for key, value in values.items() if key != "kind"}
    stage = first_stages()[kind]
    return stage.module, config_from(stage.config, values, name)


def build_vqgan(file: ModelFile, part: str, config: Any) -> FirstStage:
    """The VQGAN that a file holds as `part`."""
    module, values = stage_of_config(config, file.path.name)
    model = build_empty(module, values, file.path.name)
    load_part(model, file, part)
    return model


def read_vqgan(path: str | Path) -> FirstStage:
    """The VQGAN of a "vqgan" or "bundle" file, ready for use. Raises ValueError as `read_model_file`."""
    file = read_model_file(path)
    return build_vqgan(file, "vqgan", part_config(file, "vqgan"))
