"""What the tests of the doors share: states of a small first stage and of transformers, and files of them."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from tessera.core.autoencoders.vqgan import VQGAN
from tessera.tests.core.checkpoints.layouts.original_layout import (
    fill,
    prefixed,
    transformer_shapes,
    vqgan_shapes,
    write_lightning,
)

SHAPE = {"channels": 32, "mult": (1, 1), "attention": (1,), "blocks": 1, "codes": 64}
STAGE = fill(vqgan_shapes(**SHAPE))
PICTURE = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
YAML = "model:\n  target: taming.models.vqgan.VQModel\n  params: {embed_dim: 16, n_embed: 64, ddconfig: {ch: 32}}\n"


def transformer(block: int, condition: dict | None = None, unmasked: int = 0, vocabulary: int = 64) -> dict:
    """The state of a Net2NetTransformer; `condition` are the arguments of its condition's VQGAN."""
    shapes = prefixed("transformer", transformer_shapes(vocabulary=vocabulary, block=block, layers=1, width=32))
    shapes |= prefixed("first_stage_model", vqgan_shapes(**SHAPE))
    if condition is not None:
        shapes |= prefixed("cond_stage_model", vqgan_shapes(**{**SHAPE, **condition}))
    return fill(shapes, unmasked)


def write(path: Path, state: dict) -> Path:
    """As the ending of the name says: Lightning, a plain state dict, or safetensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(state, path, {"format": "pt"})
    elif path.suffix == ".ckpt":
        write_lightning(path, state)
    else:
        torch.save(state, path)
    return path


def yaml_of_transformer(path: Path, *lines: str) -> None:
    """A YAML beside a transformer; `lines` are entries of its params."""
    head = "model:\n  target: taming.models.cond_transformer.Net2NetTransformer\n  params:\n"
    heads = "    transformer_config: {params: {n_head: 4}}\n"
    path.write_text(head + heads + "".join(f"    {line}\n" for line in lines))


def same(model: VQGAN, state: dict, prefix: str = "") -> bool:
    """The model's encoder and codebook are those of the state."""
    names = {"encoder.conv_in.weight": model.encoder.conv_in.weight, "quantize.embedding.weight": model.codebook.codes}
    return all(torch.equal(state[prefix + name], tensor) for name, tensor in names.items())
