"""A folder as diffusers' `save_pretrained` writes it: config.json and the weights beside it."""

from __future__ import annotations

import json
from pathlib import Path

from ..storage.door import brief, existing_file, is_file
from .reader import Checkpoint, open_checkpoint

WEIGHTS = (
    "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.bin",
)  # fmt: skip
INDEXES = tuple(f"{name}.index.json" for name in WEIGHTS)  # of weights in several files
MAX_CONFIG_BYTES = 64 * 2**10  # bytes
MAX_INDEX_BYTES = 2 * 2**20
MAX_SHARDS = 64
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
    weights = next((folder / name for name in (*WEIGHTS, *INDEXES) if (folder / name).is_file()), None)
    if weights is None:
        flax = "; what it holds are flax weights, which only flax reads" if list(folder.glob("*.msgpack")) else ""
        raise ValueError(f"{folder.name} lacks {WEIGHTS[0]} or {WEIGHTS[2]}{flax}; fetch it too")
    return weights


def weight_files(weights: Path) -> list[Path]:
    """The files that hold the weights: the one given, or those that an index names.

    Raises:
        ValueError: an index that can't be read, or names files that are not beside it.
    """
    if not weights.name.endswith(".index.json"):
        return [weights]
    names = sorted(set(shard_of_tensor(weights).values()))
    if len(names) > MAX_SHARDS:
        raise ValueError(f"{weights.name} names {len(names)} files; at most {MAX_SHARDS} are known here")
    for name in names:
        if Path(name).name != name or not is_file(weights.parent / name):
            raise ValueError(f"{weights.name} names {brief(name)!r}, which is not beside it; fetch it too")
    return [weights.parent / name for name in names]


def shard_of_tensor(index: Path) -> dict[str, str]:
    """Which file each tensor is in; ValueError if the index can't be read."""
    content = read_json(index, MAX_INDEX_BYTES).get("weight_map")
    if not isinstance(content, dict) or not content or not all(isinstance(name, str) for name in content.values()):
        raise ValueError(f"{index.name} has no weight_map of tensors and files; fetch it again")
    return content


def open_shards(index: Path) -> Checkpoint:
    """Weights in several files as one checkpoint; errors as `weight_files` and `open_checkpoint`."""
    shards = {path.name: open_checkpoint(path) for path in weight_files(index)}
    files = shard_of_tensor(index)
    missing = [name for name, file in files.items() if name not in shards[file].places]
    if missing:
        raise ValueError(f"{index.name} names {brief(missing[0])!r} in a file that lacks it; fetch both again")
    places = {name: shards[file].places[name] for name, file in files.items()}
    return Checkpoint(index, places, [], read=lambda name, dtype: shards[files[name]].read(name, dtype))


def check_config(path: Path) -> None:
    """ValueError if a config.json describes no VQGAN of this family."""
    name, config = f"{path.parent.name}/{path.name}", read_json(path, MAX_CONFIG_BYTES)
    for key, value in EXPECTED.items():
        if config.get(key, value) != value:
            raise ValueError(f"{name} has {key} {brief(config[key], 40)!r}; only {value!r} is known here")


def read_json(path: Path, most: int) -> dict:
    """A JSON file of at most this many bytes that holds a dictionary; ValueError for any other."""
    name, size = f"{path.parent.name}/{path.name}", existing_file(path, "a JSON file").stat().st_size
    if size > most:
        raise ValueError(f"{name} has {size} bytes, too many; fetch it again")
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, OSError, RecursionError) as error:
        raise ValueError(f"{name} is not readable JSON; fetch it again") from error
