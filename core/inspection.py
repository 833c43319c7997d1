"""What a model file holds, said without reading its numbers."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import safe_open

from .autoencoders.vqgan_file import stage_of_config
from .bundle_file import CONTROL_KINDS, config_of_kind
from .checkpoints.dalle import is_dvae
from .checkpoints.imagegpt import is_imagegpt, plan_imagegpt
from .checkpoints.llamagen import is_llama
from .checkpoints.llamagen_bundle import find_tokenizer, plan_llamagen
from .checkpoints.reader import Checkpoint
from .checkpoints.taming import FIRST_STAGE, build_checked, plan_bundle
from .checkpoints.tensor_names import Source, is_llamagen_tokenizer
from .conditions.kinds import ConditionConfig
from .loading import holds_transformer, is_native, open_released, plan_first_stage, yaml_of
from .priors.kinds import prior_kinds
from .storage.door import brief, check_numbers
from .storage.model_file import check_finite, config_from, parse_config

# Tensors of a released checkpoint that no model here needs, by the word that gives them away
SET_ASIDE = re.compile(r"(?:^|\.)(loss|model_ema|temperature_scheduler|permuter|colorize|mask)(?:\.|$)")


@dataclass(frozen=True)
class ModelInfo:
    """A model file in words.

    kind: "bundle" (VQGAN, transformer and condition), "vqgan" or "prior".
    origin: whose names its tensors have.
    configs: of its models, by part: "vqgan", "prior", "condition_vqgan", "control".
    parameters: how many numbers each part has.
    stages: of a prior, fingerprints of the stages whose codes it learned, as `bundle_file.stage_fingerprints`.
    besides: what else it holds, such as "optimizer_states" or "loss (120 tensors)".
    """

    kind: str
    origin: str
    configs: dict[str, Any]
    parameters: dict[str, int]
    condition: ConditionConfig | None = None
    other_entries: list[str] = field(default_factory=list)
    license: str = ""
    trained_on: str = ""
    stages: dict[str, str] = field(default_factory=dict)


def inspect_model(
    path: str | Path,
    config: str | Path | None = None,
    *,
    vqgan: str | Path | None = None,
    window: int | None = None,
) -> ModelInfo:
    """Look into a model file; arguments and errors as `loading.load`.

    Raises:
        ValueError: also where its tensors do not fit its config, so that what is described can be opened.
    """
    if is_native(path):
        return _inspect_native(Path(path))
    checkpoint = open_released(path)
    condition, name = None, checkpoint.path.name
    if is_llama(checkpoint.shapes):
        return _inspect_llamagen(checkpoint, vqgan, window)
    if holds_transformer(checkpoint) or is_imagegpt(checkpoint.shapes):
        if is_imagegpt(checkpoint.shapes):
            bundle = plan_imagegpt(checkpoint)
        else:
            bundle = plan_bundle(checkpoint, yaml_of(checkpoint, config, "transformer"))
        plans = {"vqgan": bundle.vqgan, "prior": bundle.prior, "condition_vqgan": bundle.condition_vqgan}
        condition = bundle.condition
    else:
        plans = {"vqgan": plan_first_stage(checkpoint, config)}
    plans = {part: plan for part, plan in plans.items() if plan is not None}
    for plan in plans.values():
        build_checked(plan, name)
        for part in plan.parts.values():  # one after the other, to be sure that its numbers are some
            part.read()
    return ModelInfo(
        "bundle" if condition else "vqgan",
        origin_of(checkpoint),
        {part: plan.config for part, plan in plans.items()},
        {part: sum(math.prod(p.shape) for p in plan.parts.values()) for part, plan in plans.items()},
        condition,
        [*checkpoint.other_entries, *_ignored_tensors(checkpoint)],
    )


def _inspect_llamagen(checkpoint: Checkpoint, vqgan: str | Path | None, window: int | None) -> ModelInfo:
    """A transformer of LlamaGen's family together with its tokenizer's file."""
    plan = plan_llamagen(checkpoint, window)
    tokenizer = inspect_model(find_tokenizer(checkpoint.path, plan.condition, vqgan))
    plans = {"prior": plan.prior} | ({"control": plan.control} if plan.control else {})
    for part in plans.values():
        build_checked(part, checkpoint.path.name)
    sizes = {part: sum(math.prod(p.shape) for p in plan.parts.values()) for part, plan in plans.items()}
    return ModelInfo(
        "bundle",
        "ControlAR" if plan.control else "LlamaGen",
        {"vqgan": tokenizer.configs["vqgan"]} | {part: plan.config for part, plan in plans.items()},
        {"vqgan": tokenizer.parameters["vqgan"]} | sizes,
        plan.condition,
        checkpoint.other_entries,
    )


def _inspect_native(path: Path) -> ModelInfo:
    """The same for a file of our own, from its header; its numbers are only looked through."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        check_numbers(sum(map(math.prod, shapes.values())), path.name)
        for name in shapes:
            check_finite(file.get_tensor(name), brief(name), path.name)
    config = parse_config(metadata, path.name)
    stages = ("vqgan", "condition_vqgan")
    configs = {part: stage_of_config(config[part], path.name)[1] for part in stages if part in config}
    for part, kinds_of, default in (("prior", prior_kinds(), "transformer"), ("control", CONTROL_KINDS, "")):
        if part in config:
            configs[part] = config_of_kind(config[part], kinds_of, default, path.name)[1]
    prefixes = {"vqgan": "vqgan.", "prior": "prior.", "condition_vqgan": "condition.", "control": "control."}
    sizes = {
        part: sum(math.prod(shape) for name, shape in shapes.items() if name.startswith(prefixes[part]))
        for part in configs
    }
    condition = config_from(ConditionConfig, config["condition"], path.name) if "condition" in config else None
    kind, license, trained_on = (metadata.get(key, "") for key in ("kind", "license", "trained_on"))
    stages = {str(name): str(value) for name, value in dict(config.get("stages", {})).items()}
    return ModelInfo(kind, "Tessera", configs, sizes, condition, [], license, trained_on, stages)


def origin_of(checkpoint: Checkpoint) -> str:
    """Whose names the tensors have."""
    if is_imagegpt(checkpoint.shapes):
        return "Hugging Face's Image-GPT"
    if is_dvae(checkpoint.shapes):
        return "DALL-E"
    if is_llamagen_tokenizer(Source(checkpoint, "")):
        return "LlamaGen"
    if holds_transformer(checkpoint):
        return "taming transformers"
    if any(name.startswith("encoder.down_blocks.") for name in checkpoint.shapes):
        return "diffusers"
    if any(name.startswith(FIRST_STAGE) for name in checkpoint.shapes):
        return "latent diffusion"
    return "taming transformers or latent diffusion"


def _ignored_tensors(checkpoint: Checkpoint) -> list[str]:
    """Tensors that are not needed, counted by what they belong to."""
    parts = ("first_stage_model", "cond_stage_model", "transformer", "encoder", "decoder", "quantize", "quant_conv",
             "post_quant_conv")  # fmt: skip
    counts: Counter[str] = Counter()
    for name in checkpoint.shapes:
        found = SET_ASIDE.search(name)
        if found or name.split(".")[0] not in parts:
            counts[found[1] if found else name.split(".")[0]] += 1
    return [f"{word} ({number} tensor{'s' if number > 1 else ''})" for word, number in counts.items()]
