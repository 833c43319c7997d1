"""Image-GPT (Chen et al. 2020) as Hugging Face publishes it: a transformer over the colors of pixels, and its palette.

The palette lies beside the weights: `clusters` of preprocessor_config.json, [K, 3] in -1..1.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from torch import Tensor

from ..autoencoders.palette import Palette, PaletteConfig
from ..conditions.kinds import ConditionConfig
from ..priors.transformer import Transformer, TransformerConfig
from ..storage.model_file import config_from
from .reader import Checkpoint
from .taming import BundlePlan, ModelPlan, fit_positions
from .tensor_names import Source, TensorSource, count

MARK = "transformer.h.0.attn.c_attn.weight"
PALETTE_FILE, MAX_PALETTE_BYTES = "preprocessor_config.json", 2**20
HEADS = {512: 8, 1024: 8, 1536: 16}  # of the published widths; tensors don't show them
LAYERS = {  # ours -> theirs, and whether it is stored input by output
    "ln1.weight": ("ln_1.weight", False),
    "ln2.weight": ("ln_2.weight", False),
    "attn.qkv.weight": ("attn.c_attn.weight", True),
    "attn.qkv.bias": ("attn.c_attn.bias", False),
    "attn.proj.weight": ("attn.c_proj.weight", True),
    "attn.proj.bias": ("attn.c_proj.bias", False),
    "mlp.0.weight": ("mlp.c_fc.weight", True),
    "mlp.0.bias": ("mlp.c_fc.bias", False),
    "mlp.2.weight": ("mlp.c_proj.weight", True),
    "mlp.2.bias": ("mlp.c_proj.bias", False),
}


def is_imagegpt(shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether these are the tensors of an Image-GPT."""
    return MARK in shapes and "lm_head.weight" in shapes


def plan_imagegpt(checkpoint: Checkpoint) -> BundlePlan:
    """How to make palette and transformer of a checkpoint; nothing guides it but its start token, the last row.

    Raises:
        FileNotFoundError: its palette does not lie beside it.
        ValueError: a width that none was published with, or tensors that are missing or do not fit.
    """
    source, colors = Source(checkpoint, ""), read_palette(checkpoint.path)
    shapes, name = source.shapes, source.name
    layers = count(shapes, r"transformer\.h\.(\d+)\.", name)
    wanted = ["transformer.wte.weight", "transformer.wpe.weight", "transformer.ln_f.weight", "lm_head.weight"]
    wanted += [f"transformer.h.{i}.{theirs}" for i in range(layers) for theirs, _ in LAYERS.values()]
    if missing := [tensor for tensor in wanted if tensor not in shapes]:
        raise ValueError(f"{name} lacks {missing[0]}; fetch it again")
    (rows, width), (positions, _) = (shapes[n] for n in wanted[:2])
    if width not in HEADS and width % 64:
        raise ValueError(f"{name} is {width} wide; Image-GPT was published with {', '.join(map(str, HEADS))}")
    values = {
        "layers": layers, "width": width, "heads": HEADS.get(width, width // 64), "codebook_size": len(colors),
        "vocab_size": rows, "prefix_length": 1, "window": math.isqrt(positions), "norm": "rms",
        "activation": "quick-gelu",
    }  # fmt: skip
    config = config_from(TransformerConfig, values, name)
    parts = {
        "tok_emb.weight": source.weight(wanted[0]),
        "pos_emb": positions_of(source.weight(wanted[1]), config),
        "ln_f.weight": source.weight(wanted[2]),
        "head.weight": source.weight(wanted[3]),
    }
    for i in range(layers):
        for ours, (theirs, turned) in LAYERS.items():
            part = source.weight(f"transformer.h.{i}.{theirs}")
            parts[f"blocks.{i}.{ours}"] = transposed(part) if turned else part
    palette = ModelPlan(
        Palette,
        PaletteConfig(codebook_size=len(colors)),
        {"codebook.embedding.weight": TensorSource((len(colors), 3), lambda: colors)},
    )
    condition = ConditionConfig(kind="none", offset=rows - 1)
    return BundlePlan(palette, ModelPlan(Transformer, config, parts), condition, None)


def transposed(part: TensorSource) -> TensorSource:
    """A matrix stored input by output as ours."""
    return TensorSource(part.shape[::-1], lambda: part.read().T.contiguous())


def positions_of(part: TensorSource, config: TransformerConfig) -> TensorSource:
    """Positions [T, C] as ours, [1, T + 1, C]: the last cell is never looked at."""
    shape = (1, config.context, config.width)
    return TensorSource(shape, lambda: fit_positions(part.read().unsqueeze(0), config.context))


def read_palette(weights: Path) -> Tensor:
    """The colors beside the weights, [K, 3]."""
    path = weights.parent / PALETTE_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{weights.name} needs its palette, {PALETTE_FILE}; put it beside it")
    if path.stat().st_size > MAX_PALETTE_BYTES:
        raise ValueError(f"{path.name} is larger than any palette; fetch it again")
    try:
        colors = torch.tensor(json.loads(path.read_text(encoding="utf-8"))["clusters"], dtype=torch.float32)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} holds no clusters that can be read; fetch it again") from error
    if colors.ndim != 2 or colors.shape[1] != 3 or not colors.isfinite().all():
        raise ValueError(f"{path.name} holds clusters of shape {tuple(colors.shape)}, not colors [K, 3]")
    return colors
