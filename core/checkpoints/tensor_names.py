"""Which tensor of a released checkpoint is which of ours: names and layouts, nothing read yet.

Taming transformers and latent diffusion share one set of names; diffusers renamed everything and counts the
decoder's levels from the other end. What differs is settled here, so the models know nothing of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..storage.model_file import check_finite
from .reader import Checkpoint

Shape = tuple[int, ...]
Rules = Sequence[tuple[str, str]]  # pattern of a released name -> our name; "" sets the tensor aside


class TensorSource(NamedTuple):
    """A tensor to be: its shape, and what reads it."""

    shape: Shape
    read: Callable[[], Tensor]


TensorSources = dict[str, TensorSource]  # by our names

VQGAN_RULES: Rules = [
    (r"(encoder|decoder|quant_conv|post_quant_conv)\.(.+)", r"\1.\2"),
    (r"quantize\.embedding\.weight", "codebook.embedding.weight"),
    (r"quantize\.embedding\.(cluster_size|embed_avg)", ""),  # running sums of an EMA codebook
    (r"quantize\.(proj|embed)\.(.+)", r"codebook.\1.\2"),  # Gumbel
    (r"quantize\.used", ""),  # see keep_used_codes
    (r"(loss|model_ema|temperature_scheduler)\..+|colorize", ""),
]
DIFFUSERS_RULES: Rules = [
    (r"(encoder|decoder)\.(conv_in|conv_out)\.(.+)", r"\1.\2.\3"),
    (r"(encoder|decoder)\.conv_norm_out\.(.+)", r"\1.norm_out.\2"),
    (r"(encoder|decoder)\.mid_block\.resnets\.0\.(.+)", r"\1.mid.block_1.\2"),
    (r"(encoder|decoder)\.mid_block\.resnets\.1\.(.+)", r"\1.mid.block_2.\2"),
    (r"(encoder|decoder)\.mid_block\.attentions\.0\.(.+)", r"\1.mid.attn_1.\2"),
    (r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)\.(.+)", r"encoder.down.\1.block.\2.\3"),
    (r"encoder\.down_blocks\.(\d+)\.attentions\.(\d+)\.(.+)", r"encoder.down.\1.attn.\2.\3"),
    (r"encoder\.down_blocks\.(\d+)\.downsamplers\.0\.(.+)", r"encoder.down.\1.downsample.\2"),
    (r"decoder\.up_blocks\.(\d+)\.resnets\.(\d+)\.(.+)", r"decoder.up.\1.block.\2.\3"),
    (r"decoder\.up_blocks\.(\d+)\.attentions\.(\d+)\.(.+)", r"decoder.up.\1.attn.\2.\3"),
    (r"decoder\.up_blocks\.(\d+)\.upsamplers\.0\.(.+)", r"decoder.up.\1.upsample.\2"),
    (r"quantize\.embedding\.weight", "codebook.embedding.weight"),
    (r"(quant_conv|post_quant_conv)\.(.+)", r"\1.\2"),
]
DIFFUSERS_ENDS = {  # the ends of those names, before ".weight" and ".bias"
    "group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out",
    "query": "q", "key": "k", "value": "v", "proj_attn": "proj_out", "conv_shortcut": "nin_shortcut",
}  # fmt: skip
LLAMAGEN_RULES: Rules = [
    (r"(encoder|decoder)\.(conv_in|conv_out|norm_out)\.(.+)", r"\1.\2.\3"),
    (r"(encoder|decoder)\.mid\.0\.(.+)", r"\1.mid.block_1.\2"),
    (r"(encoder|decoder)\.mid\.1\.(.+)", r"\1.mid.attn_1.\2"),
    (r"(encoder|decoder)\.mid\.2\.(.+)", r"\1.mid.block_2.\2"),
    (r"encoder\.conv_blocks\.(\d+)\.res\.(.+)", r"encoder.down.\1.block.\2"),
    (r"encoder\.conv_blocks\.(\d+)\.(attn|downsample)\.(.+)", r"encoder.down.\1.\2.\3"),
    (r"decoder\.conv_blocks\.(\d+)\.res\.(.+)", r"decoder.up.\1.block.\2"),
    (r"decoder\.conv_blocks\.(\d+)\.(attn|upsample)\.(.+)", r"decoder.up.\1.\2.\3"),
    (r"quantize\.embedding\.weight", "codebook.embedding.weight"),
    (r"quantize\.codebook_used", ""),  # statistics of training
    (r"(quant_conv|post_quant_conv)\.(.+)", r"\1.\2"),
]
TRANSFORMER_RULES: Rules = [
    (r"(tok_emb|ln_f|head)\.(weight|bias)", r"\1.\2"),
    (r"pos_emb", "pos_emb"),
    (r"blocks\.(\d+)\.(ln1|ln2|attn\.proj|mlp\.0|mlp\.2)\.(.+)", r"blocks.\1.\2.\3"),
    (r"blocks\.(\d+)\.attn\.(query|key|value)\.(.+)", r"blocks.\1.attn.\2.\3"),  # joined by fuse_qkv
    (r"blocks\.\d+\.attn\.mask", ""),  # see read_unmasked
]


class Source:
    """The tensors below one prefix of a checkpoint, under names without it."""

    def __init__(self, checkpoint: Checkpoint, prefix: str):
        self.checkpoint, self.prefix, self.name = checkpoint, prefix, checkpoint.path.name
        self.shapes = {n.removeprefix(prefix): s for n, s in checkpoint.shapes.items() if n.startswith(prefix)}

    def stored(self, name: str) -> str:
        """The name, below the prefix, of the tensor that counts as `name`."""
        return name

    def read(self, name: str) -> Tensor:
        """One tensor, in float32 if it is of floating point."""
        return self.checkpoint.read_float32(self.prefix + self.stored(name))

    def weight(self, name: str) -> TensorSource:
        """A tensor as weights of a model.

        Raises:
            ValueError: of whole numbers or truth values; and when it is read, not finite.
        """
        place = self.checkpoint.places[self.prefix + self.stored(name)]
        if not place.dtype.is_floating_point:
            raise ValueError(f"{self.name}: {name} holds {str(place.dtype)[6:]}, weights are of floating point")

        def read() -> Tensor:
            tensor = self.read(name)
            check_finite(tensor, name, self.name)
            return tensor

        return TensorSource(place.shape, read)


def vqgan_parts(source: Source) -> TensorSources:
    """A VQGAN's tensors by our names; ValueError for names that are not known here."""
    if is_llamagen_tokenizer(source):
        names = llamagen_names(source)
    elif any(name.startswith("encoder.down_blocks.") for name in source.shapes):
        levels = count(source.shapes, r"encoder\.down_blocks\.(\d+)\.", source.name)
        names = {name: diffusers_name(name, levels) for name in map_names(source, DIFFUSERS_RULES)}
    else:
        names = map_names(source, VQGAN_RULES)
    parts = {ours: source.weight(name) for name, ours in names.items()}
    # diffusers has linear layers where ours are 1x1 convolutions
    layers = [n for n, part in parts.items() if re.search(r"\.attn(_1|\.\d+)\..+\.weight$", n) and len(part.shape) == 2]
    parts |= {n: TensorSource((*parts[n].shape, 1, 1), lambda p=parts[n]: p.read()[..., None, None]) for n in layers}
    return parts | silent_middle_attention(parts)


def is_llamagen_tokenizer(source: Source) -> bool:
    """True for LlamaGen's VQ-16 and VQ-8, whose codes have length one."""
    return any(name.startswith("encoder.conv_blocks.") for name in source.shapes)


def llamagen_names(source: Source) -> dict[str, str]:
    """LlamaGen's name of each of its tokenizer's tensors -> ours; its decoder counts levels in running order."""
    last = count(source.shapes, r"decoder\.conv_blocks\.(\d+)\.", source.name) - 1
    return {
        name: re.sub(r"^decoder\.up\.(\d+)", lambda m: f"decoder.up.{last - int(m[1])}", ours)
        for name, ours in map_names(source, LLAMAGEN_RULES).items()
    }


def silent_middle_attention(parts: TensorSources) -> TensorSources:
    """Attention that adds nothing, for releases without any in the middle ("attn_type: none")."""
    silent: TensorSources = {}
    for half in ("encoder", "decoder"):
        block, attention = parts.get(f"{half}.mid.block_1.conv2.weight"), f"{half}.mid.attn_1."
        if block is None or any(name.startswith(attention) for name in parts):
            continue
        width = block.shape[0]
        for layer in ("q", "k", "v", "proj_out"):
            silent[f"{attention}{layer}.weight"] = TensorSource(
                (width, width, 1, 1), lambda w=width: torch.zeros(w, w, 1, 1)
            )
            silent[f"{attention}{layer}.bias"] = TensorSource((width,), lambda w=width: torch.zeros(w))
        silent[f"{attention}norm.weight"] = TensorSource((width,), lambda w=width: torch.ones(w))
        silent[f"{attention}norm.bias"] = TensorSource((width,), lambda w=width: torch.zeros(w))
    return silent


def diffusers_name(name: str, levels: int) -> str:
    """Our name of a tensor of diffusers' VQModel that `DIFFUSERS_RULES` know."""
    pattern, ours = next(rule for rule in DIFFUSERS_RULES if re.fullmatch(rule[0], name))
    stem, _, kind = re.sub(pattern, ours, name).rpartition(".")
    for theirs, end in DIFFUSERS_ENDS.items():
        if stem.endswith(f".{theirs}"):
            stem = stem.removesuffix(theirs) + end
    # its decoder counts levels from the lowest resolution
    stem = re.sub(r"^decoder\.up\.(\d+)", lambda m: f"decoder.up.{levels - 1 - int(m[1])}", stem)
    return f"{stem}.{kind}"


def keep_used_codes(source: Source, parts: TensorSources) -> TensorSources:
    """A codebook of the subset of codes the transformer was trained on (the released `remap`): index i is code
    used[i].

    The released encoder still chooses among all codes and replaces those not in use at random; ours
    chooses among those in use.
    """
    if "quantize.used" not in source.shapes:
        return parts
    codes = [n for n in parts if n.startswith("codebook.")]
    used = source.read("quantize.used")
    total = min((parts[n].shape[0] for n in codes), default=0)
    if used.ndim != 1 or used.is_floating_point() or not 0 < len(used) <= total:
        raise ValueError(f"{source.name}: quantize.used does not name some of the {total} codes; fetch it again")
    if int(used.min()) < 0 or int(used.max()) >= total:
        raise ValueError(f"{source.name}: quantize.used names codes that are not there; fetch it again")
    used = used.long()
    kept = {n: TensorSource((len(used), *parts[n].shape[1:]), lambda p=parts[n]: p.read()[used]) for n in codes}
    return parts | kept


def transformer_parts(source: Source) -> TensorSources:
    """A transformer's tensors by our names, queries, keys and values joined; ValueError for unknown names."""
    names = map_names(source, TRANSFORMER_RULES)
    parts = {ours: source.weight(name) for name, ours in names.items()}
    for i in range(count(source.shapes, r"blocks\.(\d+)\.", source.name)):
        fuse_qkv(parts, f"blocks.{i}.attn.")
    return parts


def fuse_qkv(parts: TensorSources, prefix: str) -> None:
    """Three products become one: stack queries, keys and values in this order."""
    for kind in ("weight", "bias"):
        names = [f"{prefix}{part}.{kind}" for part in ("query", "key", "value")]
        three = [parts[name] for name in names if name in parts]
        if len(three) == len(names) and all(len(part.shape) > 0 for part in three):
            for name in names:
                del parts[name]
            shape = (sum(part.shape[0] for part in three), *three[0].shape[1:])
            parts[f"{prefix}qkv.{kind}"] = TensorSource(
                shape, lambda shape=shape, three=three: stack_parts(shape, three)
            )


def stack_parts(shape: Shape, parts: list[TensorSource]) -> Tensor:
    """Parts one below the other, in float32; each is in memory twice no longer than it is being read."""
    whole, row = torch.empty(shape), 0
    for part in parts:
        whole[row : row + part.shape[0]] = part.read()
        row += part.shape[0]
    return whole


def map_names(source: Source, rules: Rules) -> dict[str, str]:
    """Released name -> ours for all tensors; those set aside are left out.

    Raises:
        ValueError: names that no rule knows.
    """
    names, unknown = {}, []
    for name in source.shapes:
        for pattern, ours in rules:
            if re.fullmatch(pattern, name):
                if ours:
                    names[name] = re.sub(pattern, ours, name)
                break
        else:
            unknown.append(name)
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise ValueError(f"{source.name} holds tensors that are not known here: {', '.join(unknown[:3])}{more}")
    return names


def count(names: dict[str, Shape], pattern: str, file: str) -> int:
    """How many numbers the names beginning with `pattern` (one group) have; ValueError unless they are 0..N-1."""
    numbers = {match[1] for name in names if (match := re.match(pattern, name))}
    missing = next((n for n in range(len(numbers)) if str(n) not in numbers), None)
    if missing is not None:
        example = pattern.replace(r"(\d+)", str(missing)).replace("\\", "")
        raise ValueError(f"{file} has gaps: no tensor's name begins with {example}; fetch it again")
    return len(numbers)
