"""Checkpoints as other programs write them: their names, shapes and files, with numbers that a formula gives.

The numbers come from PCG64's raw integers, seeded by a tensor's name, and from products and square roots only,
so every machine and every version makes the same ones and golden tensors need no weights beside them.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


def numbers(name: str, shape: tuple[int, ...], low: float = -1.0, high: float = 1.0) -> Tensor:
    """Uniform float32 numbers that depend on the name alone."""
    raw = np.random.PCG64(zlib.crc32(name.encode())).random_raw(max(1, int(np.prod(shape))))
    shares = ((raw >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)).reshape(shape)
    return torch.from_numpy(shares * np.float32(high - low) + np.float32(low))


def picture(name: str, *shape: int) -> Tensor:
    """[B, C, H, W] in -1..1: patches of 8 x 8 pixels with noise on them, so that cells differ."""
    batch, channels, height, width = shape
    patches = numbers(f"{name} patches", (batch, channels, -(-height // 8), -(-width // 8)), -0.75, 0.75)
    patches = patches.repeat_interleave(8, 2).repeat_interleave(8, 3)[:, :, :height, :width]
    return patches + numbers(f"{name} noise", shape, -0.25, 0.25)


def label_map(name: str, classes: int, height: int, width: int) -> Tensor:
    """Labels [1, H, W] int64 in patches of 8 x 8 pixels."""
    patches = numbers(name, (1, height // 8, width // 8), 0, classes - 0.01).long()
    return patches.repeat_interleave(8, 1).repeat_interleave(8, 2)


def convolution(name: str, out: int, into: int, side: int) -> Shapes:
    return {f"{name}.weight": (out, into, side, side), f"{name}.bias": (out,)}


def linear(name: str, out: int, into: int) -> Shapes:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def residual_block(name: str, into: int, out: int) -> Shapes:
    shapes = norm(f"{name}.norm1", into) | convolution(f"{name}.conv1", out, into, 3)
    shapes |= norm(f"{name}.norm2", out) | convolution(f"{name}.conv2", out, out, 3)
    return shapes if into == out else shapes | convolution(f"{name}.nin_shortcut", out, into, 1)


def attention_block(name: str, width: int) -> Shapes:
    shapes = norm(f"{name}.norm", width)
    for part in ("q", "k", "v", "proj_out"):
        shapes |= convolution(f"{name}.{part}", width, width, 1)
    return shapes


def middle(name: str, width: int) -> Shapes:
    shapes = residual_block(f"{name}.mid.block_1", width, width) | attention_block(f"{name}.mid.attn_1", width)
    return shapes | residual_block(f"{name}.mid.block_2", width, width)


def vqgan_shapes(
    *,
    mult: tuple[int, ...] = (1, 1, 2, 2, 4),
    attention: tuple[int, ...] = (4,),
    codes: int = 1024,
    code_dim: int = 16,
    latent: int = 24,
    image_channels: int = 3,
    channels: int = 32,
    blocks: int = 2,
    gumbel: bool = False,
    labels: int = 0,
) -> Shapes:
    """The original's VQModel, GumbelVQ or VQSegmentationModel (`labels` > 0) without its losses."""
    widths = [channels * m for m in mult]
    shapes = convolution("encoder.conv_in", channels, image_channels, 3)
    previous = channels
    for i, width in enumerate(widths):
        for j in range(blocks):
            shapes |= residual_block(f"encoder.down.{i}.block.{j}", previous if j == 0 else width, width)
            shapes |= attention_block(f"encoder.down.{i}.attn.{j}", width) if i in attention else {}
        if i < len(widths) - 1:
            shapes |= convolution(f"encoder.down.{i}.downsample.conv", width, width, 3)
        previous = width
    shapes |= middle("encoder", previous) | norm("encoder.norm_out", previous)
    shapes |= convolution("encoder.conv_out", latent, previous, 3)
    shapes |= convolution("decoder.conv_in", previous, latent, 3) | middle("decoder", previous)
    for i, width in reversed(list(enumerate(widths))):
        for j in range(blocks + 1):
            shapes |= residual_block(f"decoder.up.{i}.block.{j}", previous if j == 0 else width, width)
            shapes |= attention_block(f"decoder.up.{i}.attn.{j}", width) if i in attention else {}
        if i > 0:
            shapes |= convolution(f"decoder.up.{i}.upsample.conv", width, width, 3)
        previous = width
    shapes |= norm("decoder.norm_out", previous) | convolution("decoder.conv_out", image_channels, previous, 3)
    if gumbel:
        shapes |= convolution("quantize.proj", codes, latent, 1) | {"quantize.embed.weight": (codes, code_dim)}
    else:
        shapes |= {"quantize.embedding.weight": (codes, code_dim)}
    shapes |= convolution("quant_conv", code_dim, latent, 1)
    shapes |= convolution("post_quant_conv", latent, code_dim, 1)
    return shapes | ({"colorize": (3, labels, 1, 1)} if labels else {})


def discriminator_shapes(image_channels: int = 3, channels: int = 16, layers: int = 3) -> Shapes:
    """The original's NLayerDiscriminator."""
    shapes = convolution("main.0", channels, image_channels, 4)
    width = channels
    for i in range(1, layers + 1):
        wider = channels * min(2**i, 8)
        shapes |= {f"main.{3 * i - 1}.weight": (wider, width, 4, 4)} | norm(f"main.{3 * i}", wider)
        for name, shape in (("running_mean", (wider,)), ("running_var", (wider,)), ("num_batches_tracked", ())):
            shapes[f"main.{3 * i}.{name}"] = shape
        width = wider
    return shapes | convolution(f"main.{3 * layers + 2}", 1, width, 4)


def loss_shapes(image_channels: int = 3, layers: int = 3) -> Shapes:
    """The branch that training leaves in a first stage's file: LPIPS (its names, few of its numbers) and the judge."""
    shapes = {"loss.perceptual_loss.scaling_layer.shift": (1, 3, 1, 1)}
    shapes |= {"loss.perceptual_loss.scaling_layer.scale": (1, 3, 1, 1)}
    for i, first in enumerate((0, 5, 10, 17, 24)):
        shapes |= convolution(f"loss.perceptual_loss.net.slice{i + 1}.{first}", 4, 3, 3)
        shapes |= {f"loss.perceptual_loss.lin{i}.model.1.weight": (1, 4, 1, 1)}
    judge = discriminator_shapes(image_channels, 4, layers)
    return shapes | {f"loss.discriminator.{name}": shape for name, shape in judge.items()}


def transformer_shapes(*, vocabulary: int, block: int, layers: int = 2, width: int = 32) -> Shapes:
    """The original's GPT; `block` is its block_size."""
    shapes = {"tok_emb.weight": (vocabulary, width), "pos_emb": (1, block, width)}
    for i in range(layers):
        name = f"blocks.{i}"
        shapes |= norm(f"{name}.ln1", width) | norm(f"{name}.ln2", width)
        for part in ("key", "query", "value", "proj"):
            shapes |= linear(f"{name}.attn.{part}", width, width)
        shapes |= {f"{name}.attn.mask": (1, 1, block, block)}
        shapes |= linear(f"{name}.mlp.0", 4 * width, width) | linear(f"{name}.mlp.2", width, 4 * width)
    return shapes | norm("ln_f", width) | {"head.weight": (vocabulary, width)}


def prefixed(prefix: str, shapes: Shapes) -> Shapes:
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


def fill(shapes: Shapes, unmasked: int = 0) -> dict[str, Tensor]:
    """Numbers for every name, of a size that keeps activations about 1; `unmasked` is the original's n_unmasked."""
    return {name: filled(name, shape, unmasked) for name, shape in shapes.items()}


def filled(name: str, shape: tuple[int, ...], unmasked: int) -> Tensor:
    last = name.rsplit(".", 1)[-1]
    if last == "mask":
        mask = torch.ones(shape).tril()
        mask[:, :, :unmasked, :unmasked] = 1
        return mask
    if last == "num_batches_tracked":
        return torch.tensor(7)
    if last in ("bias", "running_mean"):
        return numbers(name, shape, -0.125, 0.125)
    if last == "running_var" or (last == "weight" and len(shape) == 1):  # of a norm
        return numbers(name, shape, 0.5, 1.5)
    if name.endswith(("embedding.weight", "embed.weight", "tok_emb.weight", "pos_emb", "colorize")):
        return numbers(name, shape)
    reach = float(np.sqrt(np.float32(3 / np.prod(shape[1:]))))  # the output varies as much as the input
    if name.endswith("head.weight"):
        reach *= 2  # logits far enough apart to tell which is the largest
    if name.endswith("encoder.conv_in.weight"):
        reach *= float(np.sqrt(np.float32(shape[1] / 3)))  # of many labels, one is set
    if name.endswith("decoder.conv_out.weight"):
        reach /= 3  # pictures within about -1..1
    return numbers(name, shape, -reach, reach)


@contextmanager
def foreign_class(path: str) -> Iterator[type]:
    """A class of that dotted name, importable as long as the block lasts: long enough to be pickled by reference."""
    module_name, _, name = path.rpartition(".")
    parts = module_name.split(".")
    made = {".".join(parts[: i + 1]): ModuleType(parts[i]) for i in range(len(parts))}
    made = {full: module for full, module in made.items() if full not in sys.modules}
    kind = type(name, (), {"__module__": module_name})
    sys.modules.update(made)
    setattr(sys.modules[module_name], name, kind)
    try:
        yield kind
    finally:
        for full in made:
            del sys.modules[full]


def write_lightning(path: Path, state: dict[str, Tensor], older_format: bool = False) -> Path:
    """A file as pytorch_lightning writes it: weights among optimizer states and a callback keyed by its class.

    Args:
        older_format: of torch before 1.6, a stream instead of a zip.
    """
    moments = {"step": 5, "exp_avg": torch.ones(3, 2), "exp_avg_sq": torch.ones(3, 2)}
    group = {"lr": 4.5e-6, "betas": (0.5, 0.9), "eps": 1e-8, "params": [0]}
    with foreign_class("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint") as callback:
        content = {
            "epoch": 12,
            "global_step": 34567,
            "pytorch-lightning_version": "1.0.8",
            "callbacks": {callback: {"best_model_score": torch.tensor(0.25), "best_model_path": "last.ckpt"}},
            "optimizer_states": [{"state": {0: moments}, "param_groups": [group]}],
            "lr_schedulers": [],
            "state_dict": state,
            "hparams_name": "kwargs",
            "hyper_parameters": {"n_embed": 1024, "ddconfig": {"ch_mult": [1, 1, 2, 2, 4]}},
        }
        torch.save(content, path, _use_new_zipfile_serialization=not older_format)
    return path
