"""A VQGAN, or another first stage, as a model file."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

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
from .dvae import DVAE, DVAEConfig
from .palette import Palette, PaletteConfig
from .two_level import TwoLevel, TwoLevelConfig
from .vqgan import VQGAN, VQGANConfig

StageModule = VQGAN | TwoLevel | Palette | DVAE


class StageKind(NamedTuple):
    """A first stage's module and its configuration."""

    module: type[nn.Module]
    config: type


FIRST_STAGES = {
    "vqgan": StageKind(VQGAN, VQGANConfig),
    "palette": StageKind(Palette, PaletteConfig),
    "dvae": StageKind(DVAE, DVAEConfig),
    "two-level": StageKind(TwoLevel, TwoLevelConfig),
}


DECODES = ("decoder.", "post_quant_conv.")  # of a VQGAN's tensors, those that don't decide its codes


def vqgan_part(model: StageModule) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and tensors of a first stage for use; a VQGAN is the kind that needs no name. A moving-average codebook is
    stored as a plain one: it is used the same way, and its running sums matter to training only."""
    kind = next(name for name, kind in FIRST_STAGES.items() if type(model) is kind.module)
    config = ({} if kind == "vqgan" else {"kind": kind}) | dataclasses.asdict(model.config)
    if config.get("codebook") == "ema":
        config["codebook"] = "nearest"
    return config, {n: t for n, t in model.state_dict().items() if ".ema_" not in n}


def codes_fingerprint(model: StageModule) -> str:
    """Equal for first stages that make the same codes of an image: encoder and codebook count, the decoder does not.
    Of the weights in half precision, so that a file stored so holds the same model."""
    decides = {n: t.half() for n, t in vqgan_part(model)[1].items() if not n.startswith(DECODES)}
    rule = [model.config.normalize_codes, *(["product"] if model.config.codebook == "product" else [])]
    return fingerprint(*rule, *(part for pair in sorted(decides.items()) for part in pair))


def save_vqgan(path: str | Path, model: StageModule, **metadata: Any) -> None:
    """Write a VQGAN as a file of kind "vqgan"; `metadata` as for `write_model_file`."""
    config, tensors = vqgan_part(model)
    write_model_file(path, "vqgan", {"vqgan": config}, {"vqgan": tensors}, **metadata)


def stage_of_config(values: Any, name: str) -> tuple[type, Any]:
    """The module's class and the config of a first stage of the file `name`."""
    kind = values.get("kind", "vqgan") if isinstance(values, dict) else "vqgan"
    if kind not in FIRST_STAGES:
        raise ValueError(f"{name} holds a first stage of kind {str(kind)[:40]!r}, not known here; update Tessera")
    if isinstance(values, dict):
        values = {key: value for key, value in values.items() if key != "kind"}
    return FIRST_STAGES[kind].module, config_from(FIRST_STAGES[kind].config, values, name)


def build_vqgan(file: ModelFile, part: str, config: Any) -> StageModule:
    """The VQGAN that a file holds as `part`."""
    module, values = stage_of_config(config, file.path.name)
    model = build_empty(module, values, file.path.name)
    load_part(model, file, part)
    return model


def read_vqgan(path: str | Path) -> StageModule:
    """The VQGAN of a "vqgan" or "bundle" file, ready for use. Raises ValueError as `read_model_file`."""
    file = read_model_file(path)
    return build_vqgan(file, "vqgan", part_config(file, "vqgan"))
