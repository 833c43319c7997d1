"""Released CLIPs as ours: Hugging Face's tensor names, OpenAI's and open_clip's, and two halves in two files.

    ours                       Hugging Face                               OpenAI, open_clip
    image.blocks.0.norm1       vision_model.encoder.layers.0.layer_norm1  visual.transformer.resblocks.0.ln_1
    text.blocks.0.mlp.0        text_model.encoder.layers.0.mlp.fc1        transformer.resblocks.0.mlp.c_fc
    image.projection.weight    visual_projection.weight                   visual.proj, transposed

ComfyUI's `clip_vision` and `text_encoders` files are the halves of Hugging Face's layout. Shapes are read off the
tensors. The number of heads follows from the width in all released models; the activation can't be seen at all.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..checkpoints.reader import Checkpoint
from ..storage.model_file import build_empty, check_shapes, config_from
from .encoder import CLIP, CLIPConfig
from .tokenizer import Tokenizer

MERGES = Path(__file__).with_name("released_merges.txt.gz")  # of openai/CLIP (MIT): the pairs that the models use
WIDE_HEADS = {1280: 16, 1408: 16, 1664: 16}  # image towers of ViT-H, g and G, whose heads are wider than 64
HEAD_WIDTH = 64  # of all other towers
GELU_NAMES = re.compile(r"laion|datacomp|commonpool", re.IGNORECASE)
OTHER_KINDS = {  # a tensor that only they have
    r"(.*\.)?visual\.layer1\..+": "a CLIP with a ResNet for pictures",
    r"(.*\.)?logit_bias": "a SigLIP",
    r"(.*\.)?(visual|image_encoder)\.(model|trunk)\..+": "a CLIP with another image tower (such as MobileCLIP)",
    r"vision_model\.head\..+": "a SigLIP",
}

Activation = Literal["auto", "quick_gelu", "gelu"]
Rules = list[tuple[str, str]]  # pattern of a released name -> our name; "" sets the tensor aside

_HF_BLOCK = r"(vision|text)_model\.encoder\.layers\.(\d+)\."
_OPENAI_BLOCK = r"(visual\.)?transformer\.resblocks\.(\d+)\."
RULES: Rules = [
    (_HF_BLOCK + r"layer_norm([12])\.(.+)", r"\1.blocks.\2.norm\3.\4"),
    (_HF_BLOCK + r"self_attn\.([qkv])_proj\.(.+)", r"\1.blocks.\2.attention.\3.\4"),  # joined by _fuse_qkv
    (_HF_BLOCK + r"self_attn\.out_proj\.(.+)", r"\1.blocks.\2.attention.out.\3"),
    (_HF_BLOCK + r"mlp\.fc1\.(.+)", r"\1.blocks.\2.mlp.0.\3"),
    (_HF_BLOCK + r"mlp\.fc2\.(.+)", r"\1.blocks.\2.mlp.2.\3"),
    (r"vision_model\.embeddings\.class_embedding", "vision.class_token"),
    (r"vision_model\.embeddings\.patch_embedding\.weight", "vision.patches.weight"),
    (r"(vision|text)_model\.embeddings\.position_embedding\.weight", r"\1.positions"),
    (r"vision_model\.pre_layrnorm\.(.+)", r"vision.norm_in.\1"),
    (r"vision_model\.post_layernorm\.(.+)", r"vision.norm_out.\1"),
    (r"text_model\.embeddings\.token_embedding\.weight", "text.tokens.weight"),
    (r"text_model\.final_layer_norm\.(.+)", r"text.norm_out.\1"),
    (r"visual_projection\.weight", "vision.projection.weight"),
    (r"text_projection\.weight", "text.projection.weight"),
    (_OPENAI_BLOCK + r"ln_([12])\.(.+)", r"\1blocks.\2.norm\3.\4"),
    (_OPENAI_BLOCK + r"attn\.in_proj_(weight|bias)", r"\1blocks.\2.attention.qkv.\3"),
    (_OPENAI_BLOCK + r"attn\.out_proj\.(.+)", r"\1blocks.\2.attention.out.\3"),
    (_OPENAI_BLOCK + r"mlp\.c_fc\.(.+)", r"\1blocks.\2.mlp.0.\3"),
    (_OPENAI_BLOCK + r"mlp\.c_proj\.(.+)", r"\1blocks.\2.mlp.2.\3"),
    (r"visual\.class_embedding", "visual.class_token"),
    (r"visual\.conv1\.weight", "visual.patches.weight"),
    (r"(visual\.)?positional_embedding", r"\1positions"),
    (r"visual\.ln_pre\.(.+)", r"visual.norm_in.\1"),
    (r"visual\.ln_post\.(.+)", r"visual.norm_out.\1"),
    (r"visual\.proj", "visual.projection.weight.T"),
    (r"token_embedding\.weight", "tokens.weight"),
    (r"ln_final\.(.+)", r"norm_out.\1"),
    (r"text_projection", "projection.weight.T"),
    (r"logit_scale", "logit_scale"),
    (r"(.+\.)?(position_ids|input_resolution|context_length|vocab_size|attn_mask)", ""),
]
TOWERS = {"vision.": "image.", "visual.": "image.", "text.": "text."}  # what is without one is OpenAI's text tower


class Held(NamedTuple):
    """Tensors that are in memory already, as `Checkpoint` gives those of a file; `path` is their name."""

    path: Path
    tensors: Mapping[str, Tensor]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of each."""
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}

    def read_float32(self, name: str) -> Tensor:
        """A copy on the CPU."""
        return self.tensors[name].detach().to("cpu", torch.float32, copy=True)


class Part(NamedTuple):
    """A tensor to be: its shape, and what reads it."""

    shape: tuple[int, ...]
    read: Callable[[], Tensor]


def released_tokenizer(context: int = 77) -> Tokenizer:
    """The tokenizer of all released CLIPs."""
    lines = gzip.decompress(MERGES.read_bytes()).decode().split("\n")
    pairs = [line.split(" ") for line in lines]
    return Tokenizer([(first, second) for first, second in pairs], context)


def plan_clip(
    files: Sequence[Checkpoint | Held], activation: Activation = "auto"
) -> tuple[CLIPConfig, dict[str, Part]]:
    """What a released CLIP is, and where its tensors come from; none is read.

    Args:
        files: one checkpoint with both towers, or one for each.
        activation: "auto" goes by the config.json beside the file, its name, and its shape.
    Raises:
        ValueError: no CLIP, a kind that can't be used here, or a tower or projection is missing.
    """
    name = " and ".join(file.path.name for file in files)
    parts: dict[str, Part] = {}
    for file in files:
        _refuse_other_kinds(file)
        parts |= _parts(file)
    _fuse_qkv(parts)
    shapes = {ours: part.shape for ours, part in parts.items()}
    config = config_from(CLIPConfig, _read_shapes(shapes, name) | {"activation": "gelu"}, name)
    if activation == "auto":
        activation = _guess_activation(files, config)
    return config_from(CLIPConfig, vars(config) | {"activation": activation}, name), parts


def read_clip(files: Sequence[Checkpoint | Held], activation: Activation = "auto") -> CLIP:
    """A released CLIP, ready for use, in float32 on the CPU; arguments and errors as `plan_clip`.

    Raises:
        ValueError: missing, unknown or misshapen tensors, by name.
    """
    name = " and ".join(file.path.name for file in files)
    config, parts = plan_clip(files, activation)
    model = build_empty(CLIP, config, name)
    check_shapes(model, {ours: part.shape for ours, part in parts.items()}, name)
    model.load_state_dict({ours: part.read() for ours, part in parts.items()}, assign=True)
    return model.eval().requires_grad_(False)


def _refuse_other_kinds(file: Checkpoint | Held) -> None:
    for pattern, kind in OTHER_KINDS.items():
        if any(re.fullmatch(pattern, name) for name in file.shapes):
            raise ValueError(f"{file.path.name} is {kind}; choose a CLIP with a plain ViT, such as ViT-B/32")


def _parts(file: Checkpoint | Held) -> dict[str, Part]:
    """Our name -> part, for the tensors of one file; those that no rule knows keep their names."""
    parts = {}
    for name, shape in file.shapes.items():
        bare = name.removeprefix("clip_model.").removeprefix("cond_stage_model.transformer.")
        ours = next((re.sub(rule, new, bare) for rule, new in RULES if re.fullmatch(rule, bare)), name)
        if not ours:
            continue
        known = ours != name or ours == "logit_scale"
        if known and ours != "logit_scale":
            tower = next((tower for tower in TOWERS if ours.startswith(tower)), None)
            ours = TOWERS[tower] + ours.removeprefix(tower) if tower else f"text.{ours}"
        if ours.endswith(".T") and len(shape) == 2:
            parts[ours.removesuffix(".T")] = Part(
                shape[::-1], lambda name=name: file.read_float32(name).t().contiguous()
            )
        else:
            parts[ours] = Part(shape, lambda name=name: file.read_float32(name))
    return parts


def _fuse_qkv(parts: dict[str, Part]) -> None:
    """Three products become one: stack queries, keys and values in this order."""
    for name in [name for name in parts if ".attention.q." in name]:
        three = [name.replace(".attention.q.", f".attention.{letter}.") for letter in "qkv"]
        if all(part in parts and parts[part].shape for part in three):
            found = [parts.pop(part) for part in three]
            shape = (sum(part.shape[0] for part in found), *found[0].shape[1:])
            fused = Part(shape, lambda found=found: torch.cat([part.read() for part in found]))
            parts[name.replace(".attention.q.", ".attention.qkv.")] = fused


def _read_shapes(shapes: dict[str, tuple[int, ...]], name: str) -> dict[str, int]:
    """A CLIP's configuration, but for the activation, from our names of its tensors.

    Raises:
        ValueError: a tower or a projection is missing.
    """

    def shape(of: str, dimensions: int, what: str) -> tuple[int, ...]:
        found = shapes.get(of, ())
        if len(found) != dimensions or 0 in found:
            raise ValueError(f"{name} lacks {what} of a CLIP ({of}); choose a file with both towers and projections")
        return found

    width, _, patch, _ = shape("image.patches.weight", 4, "the image tower")
    cells = shape("image.positions", 2, "the image tower")[0] - 1
    vocab, text_width = shape("text.tokens.weight", 2, "the text tower")
    embed = shape("image.projection.weight", 2, "the projection of pictures")[0]
    shape("text.projection.weight", 2, "the projection of words")
    return {
        "image_size": round(cells**0.5) * patch,
        "patch_size": patch,
        "image_width": width,
        "image_layers": _count_blocks(shapes, "image"),
        "image_heads": WIDE_HEADS.get(width, max(1, width // HEAD_WIDTH)),
        "image_mlp": shape("image.blocks.0.mlp.0.weight", 2, "the first block")[0],
        "text_width": text_width,
        "text_layers": _count_blocks(shapes, "text"),
        "text_heads": max(1, text_width // HEAD_WIDTH),
        "text_mlp": shape("text.blocks.0.mlp.0.weight", 2, "the first block")[0],
        "context": shape("text.positions", 2, "the text tower")[0],
        "vocab_size": vocab,
        "embed_dim": embed,
    }


def _count_blocks(shapes: dict[str, tuple[int, ...]], tower: str) -> int:
    return len({match[1] for name in shapes if (match := re.match(rf"{tower}\.blocks\.(\d+)\.", name))})


def _guess_activation(files: Sequence[Checkpoint | Held], config: CLIPConfig) -> Activation:
    """What the activation most likely is: see the module's first lines.

    OpenAI's models, of B/32 to L/14, have quick_gelu, and all larger ones GELU. LAION's and DataComp's small ones
    have GELU too, which only their names tell.
    """
    for file in files:
        beside = file.path.with_name("config.json")
        if beside.is_file():
            try:
                tree = json.loads(beside.read_text(encoding="utf-8"))
                return "quick_gelu" if tree["vision_config"].get("hidden_act", "quick_gelu") == "quick_gelu" else "gelu"
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # another program's config.json
    if config.image_width in WIDE_HEADS or any(GELU_NAMES.search(str(file.path.name)) for file in files):
        return "gelu"
    return "quick_gelu"
