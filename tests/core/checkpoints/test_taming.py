"""Every released model opens from a file as it was published, with its YAML and without, and works.

The files have the published names, folders, tensors and companions; only channels, layers and the number of codes
of some are smaller. What is computed with them is compared in test_parity_*.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from tessera.core.bundle import Bundle
from tessera.core.canvas.canvas import Canvas
from tessera.core.loading import load, load_vqgan
from tessera.core.sampling.loop import sample
from tessera.core.sampling.settings import SamplingSettings
from tessera.tests.core.checkpoints.layouts.diffusers_layout import diffusers_shapes, older_names
from tessera.tests.core.checkpoints.layouts.original_layout import (
    fill,
    label_map,
    loss_shapes,
    picture,
    prefixed,
    transformer_shapes,
    vqgan_shapes,
    write_lightning,
)

F16 = {"mult": (1, 1, 2, 2, 4), "attention": (4,), "blocks": 1}
F8 = {"mult": (1, 2, 2, 4), "attention": (3,), "blocks": 1}


class FirstStage(NamedTuple):
    """A published VQGAN: where its file lay, its class, and the arguments of `vqgan_shapes`."""

    path: str
    target: str
    shape: dict[str, Any]
    judge_layers: int = 3
    older_format: bool = False


FIRST_STAGES = {
    "imagenet_f16_1024": FirstStage("vqgan_imagenet_f16_1024/checkpoints/last.ckpt", "VQModel", F16, 3, True),
    "imagenet_f16_16384": FirstStage(
        "vqgan_imagenet_f16_16384/checkpoints/last.ckpt", "VQModel", {**F16, "codes": 16384}
    ),
    "gumbel_f8": FirstStage(
        "vqgan_gumbel_f8/checkpoints/last.ckpt",
        "GumbelVQ",
        {"mult": (1, 1, 2, 4), "attention": (3,), "blocks": 1, "codes": 8192, "latent": 16, "gumbel": True},
    ),
    "faceshq": FirstStage("2020-11-09T13-33-36_faceshq_vqgan/checkpoints/last.ckpt", "VQModel", F16, 3, True),
    "coco": FirstStage("coco_epoch117.ckpt", "VQModel", {**F16, "codes": 8192}),
    "coco_open_images": FirstStage("coco_oi_epoch12.ckpt", "VQModel", {**F16, "codes": 8192}),
    "wikiart_1024": FirstStage("wikiart_1024.ckpt", "VQModel", F16),
    "wikiart_16384": FirstStage("wikiart_16384.ckpt", "VQModel", {**F16, "codes": 16384}),
    "imagenet_depth": FirstStage(
        "2020-11-03T15-34-24_imagenetdepth_vqgan/checkpoints/last.ckpt", "VQModel", {**F16, "image_channels": 1}
    ),
    "ldm_f4": FirstStage(
        "vq-f4/model.ckpt",
        "ldm",
        {"mult": (1, 2, 4), "attention": (), "blocks": 1, "codes": 8192, "latent": 3, "code_dim": 3},
    ),
    "ldm_f8": FirstStage("vq-f8/model.ckpt", "ldm", {**F8, "codes": 16384, "latent": 4, "code_dim": 4}, 2),
    "ldm_f8_256": FirstStage("vq-f8-n256/model.ckpt", "ldm", {**F8, "codes": 256, "latent": 4, "code_dim": 4}),
    "ldm_f16": FirstStage("vq-f16/model.ckpt", "ldm", {**F16, "codes": 16384, "latent": 8, "code_dim": 8}, 2),
}


class Prior(NamedTuple):
    """A published transformer: its folder, what guides it, sizes, and what its YAML says of the condition."""

    folder: str
    kind: str
    vocabulary: int
    block: int
    cond_stage_key: str
    cond_stage: Any  # a YAML entry; for a VQGAN its class, channels following from `labels`
    labels: int = 0
    older_format: bool = False


LABELATOR = {"target": "taming.modules.util.Labelator", "params": {"n_classes": 1000}}
COORDINATES = {"target": "taming.modules.misc.coord.CoordStage", "params": {"n_embed": 1024, "down_factor": 16}}
BOXES = {"target": "taming.models.dummy_cond_stage.DummyCondStage", "params": {"conditional_key": "objects_bbox"}}
SEGMENTS = "VQSegmentationModel"
PRIORS = {
    "drin": Prior("2020-11-20T12-54-32_drin_transformer", "depth", 1024, 512, "depth", "VQModel", 1, True),
    "sflckr": Prior("2020-11-09T13-31-51_sflckr", "segmentation", 1024, 512, "segmentation", SEGMENTS, 182, True),
    "coco": Prior("2021-01-20T16-04-20_coco_transformer", "segmentation", 1024, 512, "segmentation", SEGMENTS, 183),
    "ade20k": Prior("2020-11-20T21-45-44_ade20k_transformer", "segmentation", 1024, 512, "segmentation", SEGMENTS, 151),
    "faceshq": Prior("2020-11-13T21-41-45_faceshq_transformer", "coordinates", 1024, 512, "coord", COORDINATES, 1024),
    "cin": Prior("2021-04-03T19-39-50_cin_transformer", "class", 16384, 257, "class_label", LABELATOR, 1000),
    "ffhq": Prior("2021-04-23T18-19-01_ffhq_transformer", "none", 1024, 256, "image", "__is_unconditional__"),
    "celebahq": Prior("2021-04-23T18-11-19_celebahq_transformer", "none", 1024, 256, "image", "__is_unconditional__"),
    "coco_scenes": Prior("coco_scene_images_transformer", "layout", 8192, 348, "objects_bbox", BOXES),
    "open_images_scenes": Prior("open_images_scene_images_transformer", "layout", 8192, 348, "objects_bbox", BOXES),
}


def ddconfig(shape: dict[str, Any]) -> dict[str, Any]:
    """The YAML's description of encoder and decoder."""
    return {
        "double_z": False,
        "z_channels": shape.get("latent", 24),
        "resolution": 256,
        "in_channels": shape.get("image_channels", 3),
        "out_ch": shape.get("image_channels", 3),
        "ch": 32,
        "ch_mult": list(shape["mult"]),
        "num_res_blocks": shape["blocks"],
        "attn_resolutions": [256 >> level for level in shape["attention"]],
        "dropout": 0.0,
    }


def vqgan_yaml(target: str, shape: dict[str, Any]) -> dict[str, Any]:
    """The YAML entry of a VQGAN."""
    module = "ldm.models.autoencoder.VQModel" if target == "ldm" else f"taming.models.vqgan.{target}"
    params = {
        "ckpt_path": "logs/2020-09-23T17-56-33_imagenet_vqgan/checkpoints/last.ckpt",
        "embed_dim": shape.get("code_dim", 16),
        "n_embed": shape.get("codes", 1024),
        "ddconfig": ddconfig(shape),
        "lossconfig": {"target": "taming.modules.losses.vqperceptual.DummyLoss"},
    }
    if target == "GumbelVQ":
        schedule = {"warm_up_steps": 0, "lr_start": 0.9, "lr_max": 0.9, "lr_min": 1.0e-06, "max_decay_steps": 1000001}
        params["kl_weight"] = 1e-8
        params["temperature_scheduler_config"] = {
            "target": "taming.lr_scheduler.LambdaWarmUpCosineScheduler",
            "params": {**schedule, "verbosity_interval": 0},
        }
    if target == SEGMENTS:
        params |= {"n_labels": shape["labels"], "image_key": "segmentation"}
    return {"target": module, "params": params}


def write_yaml(path: Path, model: dict[str, Any]) -> None:
    """The published form: the model, and the data it was trained on."""
    data = {"target": "main.DataModuleFromConfig", "params": {"batch_size": 2, "train": {"params": {"size": 256}}}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"model": {"base_learning_rate": 4.5e-06, **model}, "data": data}))


def first_stage_file(folder: Path, stage: FirstStage) -> Path:
    """Its checkpoint, as training left it."""
    path = folder / stage.path
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = stage.shape.get("image_channels", 3)
    state = fill(vqgan_shapes(**stage.shape) | loss_shapes(channels, stage.judge_layers))
    return write_lightning(path, state, stage.older_format)


@pytest.mark.parametrize("name", FIRST_STAGES)
def test_released_first_stage_opens_and_makes_a_picture_of_a_picture(tmp_path, name):
    stage = FIRST_STAGES[name]
    path = first_stage_file(tmp_path, stage)
    alone = load_vqgan(path)
    write_yaml(path.with_suffix(".yaml"), vqgan_yaml(stage.target, stage.shape))
    assert load_vqgan(path).config == alone.config

    config, shape = alone.config, stage.shape
    assert config.channel_mult == shape["mult"]
    assert config.attention_levels == shape["attention"]
    assert config.codebook == ("gumbel" if "gumbel" in shape else "nearest")
    assert (config.codebook_size, config.code_dim) == (shape.get("codes", 1024), shape.get("code_dim", 16))

    image = picture(name, 1, shape.get("image_channels", 3), 32, 48)
    with torch.no_grad():
        out = alone(image)
    assert out.quantized.indices.shape == (1, 32 // config.stride, 48 // config.stride)
    assert out.image.shape == image.shape
    assert out.image.isfinite().all()


@pytest.mark.parametrize("older", [False, True], ids=["new names", "older names"])
def test_diffusers_folder_opens_and_makes_a_picture_of_a_picture(tmp_path, older):
    state = fill(diffusers_shapes(blocks=1))
    save_file(older_names(state) if older else state, tmp_path / "diffusion_pytorch_model.safetensors")
    config = {"_class_name": "VQModel", "_diffusers_version": "0.1.2", "act_fn": "silu", "norm_num_groups": 32}
    (tmp_path / "config.json").write_text(json.dumps(config))
    vqgan = load_vqgan(tmp_path)
    assert (vqgan.config.channel_mult, vqgan.config.stride, vqgan.config.codebook_size) == ((1, 2, 4), 4, 8192)
    with torch.no_grad():
        assert vqgan(picture("diffusers", 1, 3, 32, 48)).image.isfinite().all()


def stage_shape(prior: Prior) -> dict[str, Any]:
    """Of the VQGAN for its condition pictures."""
    labels = prior.labels if prior.kind == "segmentation" else 0
    return {**F16, "image_channels": prior.labels, "labels": labels}


def prior_file(folder: Path, prior: Prior) -> Path:
    """Its checkpoint, as training left it: `logs/NAME/checkpoints/last.ckpt`."""
    first_stage = {**F16, "codes": prior.vocabulary}
    shapes = prefixed("transformer", transformer_shapes(vocabulary=prior.vocabulary, block=prior.block))
    shapes |= prefixed("first_stage_model", vqgan_shapes(**first_stage))
    if prior.kind in ("depth", "segmentation"):
        shapes |= prefixed("cond_stage_model", vqgan_shapes(**stage_shape(prior)))
    path = folder / "logs" / prior.folder / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    return write_lightning(path, fill(shapes), prior.older_format)


def prior_yaml(path: Path, prior: Prior) -> None:
    """Write the YAML that came with it."""
    sizes = {"vocab_size": prior.vocabulary, "block_size": prior.block, "n_layer": 2, "n_head": 16, "n_embd": 32}
    condition = prior.cond_stage
    if prior.kind in ("depth", "segmentation"):
        condition = vqgan_yaml(condition, stage_shape(prior))
    params = {
        "cond_stage_key": prior.cond_stage_key,
        "transformer_config": {"target": "taming.modules.transformer.mingpt.GPT", "params": sizes},
        "first_stage_config": vqgan_yaml("VQModel", {**F16, "codes": prior.vocabulary}),
        "cond_stage_config": condition,
    }
    write_yaml(path, {"target": "taming.models.cond_transformer.Net2NetTransformer", "params": params})


def guide(prior: Prior) -> Tensor | None:
    """Something of the kind that guides it, for one window."""
    match prior.kind:
        case "depth":
            return picture("depth", 1, 1, 256, 256)
        case "segmentation":
            return label_map("labels", prior.labels, 256, 256)
        case "class":
            return torch.tensor([999])
        case "layout":
            return torch.full((1, 92), prior.vocabulary - 1)
    return None


def check_bundle(bundle: Bundle, prior: Prior) -> None:
    """What was read off the file."""
    config, condition = bundle.prior.config, bundle.condition_config
    assert (condition.kind, condition.offset) == (prior.kind, 0)
    assert condition.labels == (prior.labels if prior.kind in ("segmentation", "class", "coordinates") else 0)
    assert (config.layers, config.width, config.heads, config.window) == (2, 32, 16, 16)
    assert (config.vocab_size, config.codebook_size) == (prior.vocabulary, prior.vocabulary)
    assert config.prefix_length == {"class": 1, "none": 1, "layout": 92}.get(prior.kind, 256)
    assert bundle.vqgan.config.codebook_size == prior.vocabulary
    if prior.kind in ("depth", "segmentation"):
        assert bundle.condition_vqgan.config.image_channels == prior.labels


@pytest.mark.parametrize("name", PRIORS)
def test_released_prior_opens_and_finishes_a_picture(tmp_path, name):
    prior = PRIORS[name]
    path = prior_file(tmp_path, prior)
    check_bundle(load(path), prior)
    prior_yaml(tmp_path / "logs" / prior.folder / "configs" / f"{prior.folder[:19]}-project.yaml", prior)
    bundle = load(path)
    check_bundle(bundle, prior)

    given = torch.arange(256).view(1, 16, 16)
    unknown = torch.zeros(16, 16, dtype=torch.bool)
    unknown[-1, -3:] = True
    condition = bundle.condition(guide(prior), (16, 16))
    state = sample(bundle.prior, condition, Canvas.filled(given).forget(unknown), 0, SamplingSettings(top_k=100))
    assert torch.equal(state.indices[0][~unknown], given[0][~unknown])
    assert (state.log_probability[0][unknown] < 0).all()
    made = bundle.decode(state.canvas)
    assert made.shape == (1, 3, 256, 256)
    assert made.isfinite().all()
