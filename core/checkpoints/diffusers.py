"""A folder as diffusers' `save_pretrained` writes it: config.json and the weights beside it."""

from __future__ import annotations

import json
from pathlib import Path

WEIGHTS = (
    "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.bin",
)  # fmt: skip
MAX_CONFIG_BYTES = 64 * 2**10  # bytes
# What the tensors don't show and our VQGAN can't do otherwise
EXPECTED = {"_class_name": "VQModel", "norm_num_groups": 32, "norm_type": "group", "act_fn": "silu"}


def diffusers_weights(path: Path) -> Path:
    """The weights of a diffusers folder, given itself or its weights; any other file is returned as it is.

    Raises:
        ValueError: no such folder, another model's, or one that computes differently.
    """
    folder = path if path.is_dir() else path.parent
    config = folder / "config.json"
    if not path.is_dir():
        if path.name in WEIGHTS and config.is_file():
            check_config(config)
        return path
    if (folder / "model_index.json").is_file():
        raise ValueError(f"{folder.name} is a folder of several models; choose the one named vqvae or vqmodel in it")
    if not config.is_file():
        raise ValueError(f"{folder.name} is a folder without config.json; choose a file, or a folder of diffusers")
    check_config(config)
    weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise ValueError(f"{folder.name} lacks {WEIGHTS[0]} or {WEIGHTS[2]}; fetch it too")
    return weights


def check_config(path: Path) -> None:
    """ValueError if a config.json describes no VQGAN of this family."""
    name = f"{path.parent.name}/{path.name}"
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise ValueError(f"{name} has {path.stat().st_size} bytes, too many; fetch it again")
    try:
        config = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{name} is not readable JSON; fetch it again") from error
    for key, value in EXPECTED.items():
        if config.get(key, value) != value:
            raise ValueError(f"{name} has {key} {str(config[key])[:40]!r}; only {value!r} is known here")
