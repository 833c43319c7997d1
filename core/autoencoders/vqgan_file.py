"""A VQGAN as a model file."""

import dataclasses
from pathlib import Path
from typing import Any

from torch import Tensor

from ..storage.fingerprint import fingerprint
from ..storage.model_file import (
    ModelFile,
    build_empty,
    config_from,
    load_part,
    part_config,
    read_model_file,
    write_model_file,
)
from .vqgan import VQGAN, VQGANConfig


def vqgan_part(model: VQGAN) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and tensors of a VQGAN for use. A moving-average codebook is stored as a plain one: it is
    used the same way, and its running sums matter to training only."""
    config = dataclasses.asdict(model.config)
    if config["codebook"] == "ema":
        config["codebook"] = "nearest"
    return config, {n: t for n, t in model.state_dict().items() if ".ema_" not in n}


def codes_fingerprint(model: VQGAN) -> str:
    """Equal for first stages that make the same codes of an image: encoder and codebook count, the decoder does not.
    Of the weights in half precision, so that a file stored so holds the same model."""
    decides = {
        n: t.half() for n, t in vqgan_part(model)[1].items() if not n.startswith(("decoder.", "post_quant_conv."))
    }
    rule = [model.config.normalize_codes, *(["product"] if model.config.codebook == "product" else [])]
    return fingerprint(*rule, *(part for pair in sorted(decides.items()) for part in pair))


def save_vqgan(path: str | Path, model: VQGAN, **metadata: Any) -> None:
    """Write a VQGAN as a file of kind "vqgan"; `metadata` as for `write_model_file`."""
    config, tensors = vqgan_part(model)
    write_model_file(path, "vqgan", {"vqgan": config}, {"vqgan": tensors}, **metadata)


def build_vqgan(file: ModelFile, part: str, config: Any) -> VQGAN:
    """The VQGAN that a file holds as `part`."""
    model = build_empty(VQGAN, config_from(VQGANConfig, config, file.path.name), file.path.name)
    load_part(model, file, part)
    return model


def read_vqgan(path: str | Path) -> VQGAN:
    """The VQGAN of a "vqgan" or "bundle" file, ready for use. Raises ValueError as `read_model_file`."""
    file = read_model_file(path)
    return build_vqgan(file, "vqgan", part_config(file, "vqgan"))
