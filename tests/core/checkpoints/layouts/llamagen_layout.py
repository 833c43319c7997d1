"""LlamaGen's, ControlAR's and RandAR's files: their tensors' names and shapes, with numbers that a formula gives."""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import Tensor

from tessera.tests.core.checkpoints.layouts.original_layout import (
    Shapes,
    convolution,
    filled,
    linear,
    norm,
    numbers,
    prefixed,
    vqgan_shapes,
)

CODES, CLASSES, FEATURES = 48, 10, 64  # of the tiny ones
HIDDEN = 512  # of SwiGLU at width 128


def block_shapes(layers: int, width: int) -> Shapes:
    """What all of them share."""
    shapes: Shapes = {"tok_embeddings.weight": (CODES, width)}
    for i in range(layers):
        name = f"layers.{i}"
        shapes |= {f"{name}.attention_norm.weight": (width,), f"{name}.ffn_norm.weight": (width,)}
        shapes |= {f"{name}.attention.wqkv.weight": (3 * width, width), f"{name}.attention.wo.weight": (width, width)}
        for part, shape in (("w1", (HIDDEN, width)), ("w3", (HIDDEN, width)), ("w2", (width, HIDDEN))):
            shapes |= {f"{name}.feed_forward.{part}.weight": shape}
    return shapes | {"norm.weight": (width,), "output.weight": (CODES, width)}


def class_shapes(layers: int = 3, width: int = 128, classes: int = CLASSES) -> Shapes:
    """A class-conditional transformer."""
    return block_shapes(layers, width) | {"cls_embedding.embedding_table.weight": (classes + 1, width)}


def text_shapes(layers: int = 3, width: int = 128, length: int = 120) -> Shapes:
    """A text-conditional transformer."""
    return block_shapes(layers, width) | {
        "cls_embedding.cap_proj.fc1.weight": (width, FEATURES),
        "cls_embedding.cap_proj.fc2.weight": (width, width),
        "cls_embedding.uncond_embedding": (length, FEATURES),
    }


def fill_llama(shapes: Shapes) -> dict[str, Tensor]:
    """Numbers for every name; the output twice as large, so that logits differ enough to tell which is the largest."""
    return {name: filled_llama(name, shape) for name, shape in shapes.items()}


def filled_llama(name: str, shape: tuple[int, ...]) -> Tensor:
    if name in ("condition_mlp.uncond_embedding", "quantize.codebook_used"):
        return torch.zeros(shape)
    if "projection" not in name and ("embed" in name or name.endswith(("cls_token", "mask_token"))):
        return numbers(name, shape)
    if name.endswith("lambda1"):
        return numbers(name, shape, 0.5, 1.5)
    if name == "output.weight":
        reach = 2 * float(np.sqrt(np.float32(3 / shape[1])))
        return numbers(name, shape, -reach, reach)
    return filled(name, shape, 0)


DINO = 384  # ControlAR's MLP expects the small model's width


def dino_shapes(layers: int = 2) -> Shapes:
    """DINOv2-small with fewer layers, as transformers named it in 2024."""
    shapes: Shapes = {"embeddings.cls_token": (1, 1, DINO), "embeddings.mask_token": (1, DINO)}
    shapes |= {"embeddings.position_embeddings": (1, 1 + 37**2, DINO)}
    shapes |= convolution("embeddings.patch_embeddings.projection", DINO, 3, 14)
    for i in range(layers):
        name = f"encoder.layer.{i}"
        shapes |= norm(f"{name}.norm1", DINO) | norm(f"{name}.norm2", DINO)
        for part in ("attention.attention.query", "attention.attention.key", "attention.attention.value"):
            shapes |= linear(f"{name}.{part}", DINO, DINO)
        shapes |= linear(f"{name}.attention.output.dense", DINO, DINO)
        shapes |= {f"{name}.layer_scale1.lambda1": (DINO,), f"{name}.layer_scale2.lambda1": (DINO,)}
        shapes |= linear(f"{name}.mlp.fc1", 4 * DINO, DINO) | linear(f"{name}.mlp.fc2", DINO, 4 * DINO)
    return shapes | norm("layernorm", DINO)


def control_shapes(grid: int = 6, width: int = 128, dino_layers: int = 2) -> Shapes:
    """A whole ControlAR file."""
    shapes = text_shapes(width=width) | prefixed("adapter.model", dino_shapes(dino_layers))
    for name, into in (("adapter_mlp", DINO), ("condition_mlp.cap_proj", width)):
        shapes |= {f"{name}.fc1.weight": (width, into), f"{name}.fc2.weight": (width, width)}
    for i in range(3):
        shapes |= {
            f"condition_layers.{i}.fc1.weight": (width, width),
            f"condition_layers.{i}.fc2.weight": (width, width),
        }
    return shapes | {"condition_embeddings.weight": (CODES, width), "condition_mlp.uncond_embedding": (grid**2, width)}


def vq_shapes(mult: tuple[int, ...] = (1, 1, 2, 2, 4), channels: int = 32, codes: int = 16384) -> Shapes:
    """A tokenizer: VQ-16, or with `mult` (1, 2, 2, 4) VQ-8."""
    last = len(mult) - 1
    taming = vqgan_shapes(mult=mult, attention=(last,), codes=codes, code_dim=8, channels=channels)
    return {llamagen_name(name, last): shape for name, shape in taming.items()} | {"quantize.codebook_used": (65536,)}


def llamagen_name(name: str, last: int) -> str:
    """LlamaGen's name of a tensor of taming's: its decoder counts levels in running order."""
    for part, number in (("block_1", 0), ("attn_1", 1), ("block_2", 2)):
        name = name.replace(f".mid.{part}.", f".mid.{number}.")
    name = re.sub(r"^encoder\.down\.", "encoder.conv_blocks.", name)
    name = re.sub(r"^decoder\.up\.(\d+)", lambda m: f"decoder.conv_blocks.{last - int(m[1])}", name)
    return re.sub(r"(conv_blocks\.\d+)\.block\.", r"\1.res.", name)


def any_order_shapes(width: int = 128, classes: int = CLASSES) -> Shapes:
    """RandAR's transformer."""
    return class_shapes(width=width, classes=classes) | {"pos_instruct_embeddings": (1, width)}
