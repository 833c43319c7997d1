"""LlamaGen's files (MIT): tokenizers VQ-16 and VQ-8, and transformers guided by a class or a text; RandAR's, too.

The tokenizers are taming's network under other names, with codes of length one. A transformer's file holds neither its
tokenizer nor the grid it was trained on: the tokenizer is another file, and the grid is told by the file's name or by
whoever opens it.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from ..priors.any_order import AnyOrderLlama
from ..priors.llama import Llama, LlamaConfig
from ..storage.model_file import config_from
from .taming import ModelPlan
from .tensor_names import Rules, Source, TensorSource, TensorSources, count, map_names, stack_parts

CELL = 16  # pixels a side, of every released transformer's tokenizer
TRANSFORMER = "layers.0.attention.wqkv.weight"  # a name that only these files have
WIDE_HEADS = {3200: 32, 4096: 32}  # width -> heads where a head is not 64 wide
LABELS = "cls_embedding.embedding_table.weight"
QUERY = "pos_instruct_embeddings"  # of RandAR

TRANSFORMER_RULES: Rules = [
    (r"(tok_embeddings|norm|output)\.weight", r"\1.weight"),
    (r"layers\.(\d+)\.(attention\.wqkv|attention\.wo|feed_forward\.w[123]|attention_norm|ffn_norm)\.weight",
     r"layers.\1.\2.weight"),
    (r"cls_embedding\.(embedding_table\.weight|cap_proj\.fc[12]\.weight|uncond_embedding)", r"cls_embedding.\1"),
    (r"freqs_cis", ""),  # made anew
]  # fmt: skip


def is_llama(names: Collection[str]) -> bool:
    """True for the tensors of a transformer of LlamaGen's or one like it."""
    return TRANSFORMER in names


def plan_llama(source: Source, window: int | None = None, extra: Rules = ()) -> ModelPlan:
    """How to make the prior of a transformer's file.

    Args:
        window: cells a side that it was trained on; None: as the file's name says.
        extra: rules for tensors that other parts of a larger model take.
    Raises:
        ValueError: not such a transformer; or nothing tells its window.
    """
    names = map_names(source, [*TRANSFORMER_RULES, *extra])
    parts = {ours: part_of(source, name) for name, ours in names.items()}
    config = llama_config(parts, source.name, window or window_of_name(source.name))
    if LABELS in parts:  # one table of ours: codes, then labels
        tables = [parts["tok_embeddings.weight"], parts.pop(LABELS)]
        shape = (config.vocab_size, config.width)
        parts["tok_embeddings.weight"] = TensorSource(shape, lambda: stack_parts(shape, tables))
    return ModelPlan(Llama, config, parts)


def plan_any_order(source: Source, window: int | None = None) -> ModelPlan:
    """`plan_llama` for RandAR, whose queries come from one more tensor; all released ones have 16 cells a side."""
    plan = plan_llama(source, window or 16, [(QUERY, "")])
    parts = {f"llama.{name}": part for name, part in plan.parts.items()} | {"query": part_of(source, QUERY)}
    return ModelPlan(AnyOrderLlama, plan.config, parts)


def part_of(source: Source, name: str) -> TensorSource:
    """One tensor as it is."""
    return TensorSource(source.shapes[name], lambda: source.read(name))


def llama_config(parts: TensorSources, name: str, window: int) -> LlamaConfig:
    """Read a transformer's configuration off its tensors' shapes; ValueError if one is missing or impossible."""

    def shape(of: str) -> tuple[int, ...]:
        if of not in parts or len(parts[of].shape) != 2:
            raise ValueError(f"{name} lacks {of} of a LlamaGen transformer, or has a broken one; fetch it again")
        return parts[of].shape

    codes, width = shape("tok_embeddings.weight")
    text = "cls_embedding.uncond_embedding" in parts
    length, feature_width = shape("cls_embedding.uncond_embedding") if text else (1, 0)
    values = {
        "layers": count({n: p.shape for n, p in parts.items()}, r"layers\.(\d+)\.", name),
        "width": width,
        "heads": WIDE_HEADS.get(width, width // 64),
        "hidden": shape("layers.0.feed_forward.w1.weight")[0],
        "codebook_size": codes,
        "prefix_rows": 0 if text else shape(LABELS)[0],
        "feature_width": feature_width,
        "prefix_length": length,
        "window": window,
    }
    return config_from(LlamaConfig, values, name)


def window_of_name(name: str) -> int:
    """Cells a side, from the pixels in a file's name, such as c2i_B_384.pt; ValueError where there are none."""
    pixels = re.search(r"(?<!\d)(256|384|512)(?!\d)", name)
    if pixels is None:
        raise ValueError(
            f"{name} does not tell the size it was trained on; give its window in cells (16, 24 or 32), or name it as "
            "it was released, such as c2i_B_384.pt"
        )
    return int(pixels[1]) // CELL
