"""Load a VQGAN or a bundle from any supported file format: ours, taming, latent diffusion, diffusers, LlamaGen."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from .autoencoders.base import FirstStage
from .autoencoders.vqgan_file import read_vqgan
from .bundle import Bundle
from .bundle_file import load_bundle, make_bundle, read_condition_vqgan
from .checkpoints.dalle import is_dvae, plan_dvae
from .checkpoints.diffusers import diffusers_weights, open_shards
from .checkpoints.imagegpt import is_imagegpt, plan_imagegpt
from .checkpoints.llamagen import TRANSFORMER as LLAMA
from .checkpoints.llamagen import is_llama
from .checkpoints.llamagen_bundle import find_tokenizer, plan_llamagen
from .checkpoints.reader import Checkpoint, open_checkpoint
from .checkpoints.taming import (
    CONDITION_STAGE,
    FIRST_STAGE,
    TRANSFORMER,
    ModelPlan,
    OnRead,
    bundle_of_plan,
    materialize,
    plan_vqgan,
    released_bundle,
)
from .checkpoints.taming_yaml import TARGETS, ModelKind, ModelYaml, find_yaml, read_yaml
from .storage.door import brief, existing_file, is_folder
from .storage.header import check_header


def load_vqgan(path: str | Path, config: str | Path | None = None, on_read: OnRead | None = None) -> FirstStage:
    """The VQGAN of a file: the first stage where there is more.

    Args:
        path: our model file, a released checkpoint (of a transformer too), or diffusers' folder or weights.
        config: a released checkpoint's YAML, where it doesn't lie beside it under a usual name.
        on_read: told the bytes of each tensor of a released checkpoint as it arrives in memory.
    Raises:
        FileNotFoundError: no such file.
        ValueError: broken, hostile, or no VQGAN; one sentence that names the file.
    """
    if is_native(path):
        return read_vqgan(path)
    checkpoint = open_released(path)
    return materialize(plan_first_stage(checkpoint, config), checkpoint.path.name, on_read)


def load_condition_vqgan(path: str | Path, config: str | Path | None = None) -> FirstStage:
    """The VQGAN of a bundle's condition, or of a file that holds one VQGAN only; otherwise as `load_vqgan`."""
    if is_native(path):
        return read_condition_vqgan(path)
    checkpoint = open_released(path)
    if not holds_transformer(checkpoint):
        return materialize(plan_first_stage(checkpoint, config), checkpoint.path.name)
    return materialize(plan_vqgan(checkpoint, CONDITION_STAGE), checkpoint.path.name)


def load(
    path: str | Path,
    config: str | Path | None = None,
    on_read: OnRead | None = None,
    *,
    vqgan: str | Path | None = None,
    window: int | None = None,
    prior_dtype: torch.dtype = torch.float32,
) -> Bundle:
    """First stage, condition and prior of our bundle or a released transformer; otherwise as `load_vqgan`.

    Args:
        vqgan: the file of a LlamaGen transformer's tokenizer, where it doesn't lie beside it under its own name.
        window: cells a side that a LlamaGen transformer was trained on, where its file's name doesn't tell.
        prior_dtype: of the prior's weights; first stages stay in float32.
    """
    if is_native(path):
        return load_bundle(path, prior_dtype)
    checkpoint = open_released(path)
    if is_llama(checkpoint.shapes):
        return load_llamagen(checkpoint, vqgan, window, on_read, prior_dtype)
    if is_imagegpt(checkpoint.shapes):
        return bundle_of_plan(plan_imagegpt(checkpoint), checkpoint.path.name, on_read, prior_dtype)
    if not holds_transformer(checkpoint):
        raise ValueError(f"{checkpoint.path.name} holds no transformer; choose another file")
    return released_bundle(checkpoint, yaml_of(checkpoint, config, "transformer"), None, on_read, prior_dtype)


def has_llama_prior(path: str | Path) -> bool:
    """Whether a model file, ours or released, holds a prior of LlamaGen's family; errors as `load`."""
    if is_native(path):
        with safe_open(path, framework="pt") as file:
            return f"prior.{LLAMA}" in file.keys()  # noqa: SIM118, not a dict
    return is_llama(open_released(path).shapes)


def load_llamagen(
    checkpoint: Checkpoint,
    vqgan: str | Path | None,
    window: int | None,
    on_read: OnRead | None = None,
    prior_dtype: torch.dtype = torch.float32,
) -> Bundle:
    """A transformer of LlamaGen's family, with its tokenizer; arguments as `load`."""
    plan, name = plan_llamagen(checkpoint, window), checkpoint.path.name
    tokenizer = load_vqgan(find_tokenizer(checkpoint.path, plan.condition, vqgan), on_read=on_read)
    control = materialize(plan.control, name, on_read) if plan.control else None
    prior = materialize(plan.prior, name, on_read, prior_dtype)
    return make_bundle(name, tokenizer, prior, plan.condition, control=control)


def is_native(path: str | Path) -> bool:
    """True for a file that says so in its metadata; reads no more than its header.

    Raises:
        ValueError: the header of a safetensors file is broken.
    """
    if is_folder(Path(path)):
        return False
    path = existing_file(path, "a model file")
    with path.open("rb") as file:
        if file.read(9)[8:] != b"{":
            return False
    try:
        check_header(path)
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format", "").startswith("tessera/")
    except (SafetensorError, OSError, RuntimeError) as error:  # RuntimeError: too large for a map of memory
        problem = brief(error, 200)
        raise ValueError(f"{path.name} is truncated or not a safetensors file ({problem}); fetch it again") from error


def open_released(path: str | Path) -> Checkpoint:
    """A checkpoint of another program; in a folder of diffusers, its weights."""
    weights = diffusers_weights(Path(path))
    return open_shards(weights) if weights.name.endswith(".index.json") else open_checkpoint(weights)


def holds_transformer(checkpoint: Checkpoint) -> bool:
    """True for a checkpoint of Net2NetTransformer."""
    return f"{TRANSFORMER}tok_emb.weight" in checkpoint.shapes


def plan_first_stage(checkpoint: Checkpoint, config: str | Path | None) -> ModelPlan:
    """How to make the VQGAN of a checkpoint that holds it alone or as a first stage."""
    if is_dvae(checkpoint.shapes):
        return plan_dvae(checkpoint)
    if any(name.startswith(FIRST_STAGE) for name in checkpoint.shapes):
        return plan_vqgan(checkpoint, FIRST_STAGE)
    return plan_vqgan(checkpoint, "", yaml_of(checkpoint, config, "vqgan"))


def yaml_of(checkpoint: Checkpoint, config: str | Path | None, kind: ModelKind) -> ModelYaml | None:
    """The YAML given, or the one beside the checkpoint; ValueError if it describes another kind of model."""
    model = read_yaml(config) if config else find_yaml(checkpoint.path, kind)
    if model and model.target not in TARGETS[kind]:
        raise ValueError(
            f"{model.file} describes a {model.target}, {checkpoint.path.name} is a {kind}; name them apart"
        )
    return model
