"""Released checkpoints as our models: which of their names means what, and what the shapes tell.

Taming transformers (VQModel, GumbelVQ, VQSegmentationModel, Net2NetTransformer), latent diffusion
(VQModelInterface) and diffusers (VQModel) store the same networks. Everything but the number of attention
heads and the kind of condition can be read off the tensors' names and shapes; those come from the YAML beside
the checkpoint, or from what all releases have in common.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from .bundle import PICTURES, Bundle, ConditionConfig, ConditionKind
from .checkpoint import Checkpoint
from .model_file import load_strictly
from .transformer import Transformer, TransformerConfig
from .vqgan import VQGAN, VQGANConfig

logger = logging.getLogger("tessera")

RELEASED_HEADS = 16  # of every released transformer; the tensors don't show it
WINDOW = 16  # cells a side, of every released transformer

Rules = list[tuple[str, str]]  # pattern of a released name -> our name; "" sets the tensor aside

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
DIFFUSERS_PARTS = {  # the ends of those names
    "group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out",
    "query": "q", "key": "k", "value": "v", "proj_attn": "proj_out", "conv_shortcut": "nin_shortcut",
}  # fmt: skip
TRANSFORMER_RULES: Rules = [
    (r"(tok_emb|ln_f|head)\.(weight|bias)", r"\1.\2"),
    (r"pos_emb", "pos_emb"),
    (r"blocks\.(\d+)\.(ln1|ln2|attn\.proj|mlp\.0|mlp\.2)\.(.+)", r"blocks.\1.\2.\3"),
    (r"blocks\.(\d+)\.attn\.(query|key|value)\.(.+)", r"blocks.\1.attn.\2.\3"),  # joined by fuse_qkv
    (r"blocks\.\d+\.attn\.mask", ""),  # see read_unmasked
]

VQGAN_TARGETS = {
    "taming.models.vqgan.VQModel", "taming.models.vqgan.GumbelVQ", "taming.models.vqgan.VQSegmentationModel",
    "taming.models.vqgan.VQNoDiscModel", "taming.models.vqgan.EMAVQ",
    "ldm.models.autoencoder.VQModel", "ldm.models.autoencoder.VQModelInterface",
}  # fmt: skip
TRANSFORMER_TARGETS = {"taming.models.cond_transformer.Net2NetTransformer"}
CONDITION_OF_TARGET: dict[str, ConditionKind] = {
    "taming.modules.misc.coord.CoordStage": "coordinates",
    "taming.modules.util.Labelator": "class",
    "taming.modules.util.SOSProvider": "none",
    "taming.models.dummy_cond_stage.DummyCondStage": "layout",
}


class Source:
    """The tensors below one prefix of a checkpoint, under names without it."""

    def __init__(self, checkpoint: Checkpoint, prefix: str):
        self.checkpoint, self.prefix = checkpoint, prefix
        self.shapes = {n.removeprefix(prefix): s for n, s in checkpoint.shapes.items() if n.startswith(prefix)}

    def read(self, name: str) -> Tensor:
        """One tensor, in float32 if it is of floating point."""
        tensor = self.checkpoint.read(self.prefix + name)
        return tensor.float() if tensor.is_floating_point() else tensor

    def count(self, pattern: str) -> int:
        """How many numbers N the names that begin with `pattern` (one group) have: 0..N-1."""
        numbers = {int(m[1]) for n in self.shapes if (m := re.match(pattern, n))}
        return max(numbers) + 1 if numbers else 0


def released_vqgan(checkpoint: Checkpoint, prefix: str = "") -> VQGAN:
    """The VQGAN below `prefix` ("first_stage_model." and "cond_stage_model." in a transformer's checkpoint).

    Raises:
        ValueError: not a VQGAN, or missing, unknown or misshapen tensors, by name.
    """
    source = Source(checkpoint, prefix)
    name = checkpoint.path.name
    if "encoder.down_blocks.0.resnets.0.conv1.weight" in source.shapes:
        levels = source.count(r"encoder\.down_blocks\.(\d+)\.")
        names = {n: ours for n in source.shapes if (ours := diffusers_name(n, levels))}
        layout = [n for n in source.shapes if n not in names]
        if layout:
            raise ValueError(f"{name} holds {layout[0]}, which no VQGAN of this family has")
    else:
        names = map_names(source, VQGAN_RULES, name)
    config = vqgan_config({ours: source.shapes[n] for n, ours in names.items()}, name)
    readers = {ours: lambda n=n: source.read(n) for n, ours in names.items()}
    if "quantize.used" in source.shapes:
        config, readers = keep_used_codes(config, readers, source.read("quantize.used"))
    with torch.device("meta"):
        model = VQGAN(config)
    return load_lazily(model, readers, name)


def vqgan_config(shapes: dict[str, tuple[int, ...]], name: str) -> VQGANConfig:
    """Read a VQGAN's configuration off our names of its tensors and their shapes."""
    if not {"encoder.conv_in.weight", "encoder.conv_out.weight", "decoder.conv_in.weight"} <= shapes.keys():
        raise ValueError(f"{name} holds no encoder and decoder of a VQGAN; choose another file")
    levels = 1 + max(int(m[1]) for n in shapes if (m := re.match(r"encoder\.down\.(\d+)\.", n)))
    channels, image_channels = shapes["encoder.conv_in.weight"][:2]
    latent_channels = shapes["decoder.conv_in.weight"][1]
    if shapes["encoder.conv_out.weight"][0] != latent_channels:
        raise ValueError(f"{name} is an autoencoder of means and variances (KL), not a VQGAN; choose another file")
    blocks = 1 + max(int(m[1]) for n in shapes if (m := re.match(r"encoder\.down\.0\.block\.(\d+)\.", n)))
    widths = [shapes[f"encoder.down.{i}.block.{blocks - 1}.conv2.weight"][0] for i in range(levels)]
    gumbel = "codebook.proj.weight" in shapes
    codes = shapes.get("codebook.embed.weight" if gumbel else "codebook.embedding.weight")
    if codes is None:
        raise ValueError(f"{name} holds no codebook; choose another file")
    return VQGANConfig(
        image_channels=image_channels,
        channels=channels,
        channel_mult=tuple(width // channels for width in widths),
        blocks_per_level=blocks,
        attention_levels=tuple(i for i in range(levels) if f"encoder.down.{i}.attn.0.norm.weight" in shapes),
        latent_channels=latent_channels,
        codebook_size=codes[0],
        code_width=codes[1],
        codebook="gumbel" if gumbel else "nearest",
        commitment_weight=1.0,  # the released loss has beta on the other term
        codebook_weight=0.25,
        kl_weight=1e-8,
    )


def diffusers_name(name: str, levels: int) -> str:
    """Our name of a tensor of diffusers' VQModel, "" if there is none."""
    for pattern, ours in DIFFUSERS_RULES:
        if re.fullmatch(pattern, name):
            name = re.sub(pattern, ours, name)
            break
    else:
        return ""
    stem, _, kind = name.rpartition(".")
    for theirs, ours in DIFFUSERS_PARTS.items():
        if stem.endswith(f".{theirs}"):
            stem = f"{stem.removesuffix(theirs)}{ours}"
    # its decoder counts levels from the lowest resolution
    stem = re.sub(r"^decoder\.up\.(\d+)", lambda m: f"decoder.up.{levels - 1 - int(m[1])}", stem)
    return f"{stem}.{kind}"


def keep_used_codes(
    config: VQGANConfig, readers: dict[str, Callable[[], Tensor]], used: Tensor
) -> tuple[VQGANConfig, dict[str, Callable[[], Tensor]]]:
    """A codebook of the codes a transformer speaks of (the released `remap`): index i is code used[i].

    The released encoder still chooses among all codes and replaces those not in use at random; ours
    chooses among those in use.
    """
    readers = dict(readers)
    for name in ("codebook.embedding.weight", "codebook.embed.weight", "codebook.proj.weight", "codebook.proj.bias"):
        if name in readers:
            readers[name] = lambda read=readers[name]: read()[used]
    return VQGANConfig(**{**vars(config), "codebook_size": len(used)}), readers


def released_bundle(checkpoint: Checkpoint, config: dict[str, Any] | None, kind: ConditionKind | None) -> Bundle:
    """First stage, condition and transformer of a Net2NetTransformer checkpoint.

    Args:
        config: the YAML beside it, as `read_yaml` gives it, or None.
        kind: of the condition, where neither YAML nor shapes tell.
    Raises:
        ValueError: as `released_vqgan`; or the kind of condition can't be told.
    """
    name = checkpoint.path.name
    params = config["params"] if config else {}
    vqgan = released_vqgan(checkpoint, "first_stage_model.")
    source = Source(checkpoint, "transformer.")
    context = source.shapes.get("pos_emb", (0, 0, 0))[1]
    labels_shape = checkpoint.shapes.get("cond_stage_model.encoder.conv_in.weight")
    kind = kind or kind_of_yaml(params) or kind_of_shapes(labels_shape, context, name)
    if any(n.startswith("permuter.") for n in checkpoint.shapes):
        raise ValueError(f"{name} orders its tokens by a permuter; only row by row is known here")
    if params.get("downsample_cond_size", -1) > 0:
        raise ValueError(f"{name} shrinks its condition pictures (downsample_cond_size), which is not known here")
    condition_vqgan = None
    if kind in PICTURES:
        shared = params.get("cond_stage_config") == "__is_first_stage__"
        condition_vqgan = released_vqgan(checkpoint, "first_stage_model." if shared else "cond_stage_model.")
    prefix_length = {"class": 1, "none": 1, "layout": 92}.get(kind, WINDOW**2)
    heads = params.get("transformer_config", {}).get("params", {}).get("n_head")
    if heads is None:
        heads = RELEASED_HEADS
        logger.info("%s: the number of heads can't be read off the weights; taking %d", name, heads)
    prior = released_transformer(source, name, vqgan.config.codebook_size, prefix_length, heads)
    labels = labels_of(kind, params, prior.config, condition_vqgan)
    offset = params.get("sos_token", 0) if kind == "none" else 0
    return Bundle(vqgan, prior, ConditionConfig(kind=kind, labels=labels, offset=offset), condition_vqgan)


def released_transformer(source: Source, name: str, codes: int, prefix_length: int, heads: int) -> Transformer:
    """The transformer among a checkpoint's tensors."""
    names = map_names(source, TRANSFORMER_RULES, name)
    if "pos_emb" not in names or "tok_emb.weight" not in names:
        raise ValueError(f"{name} holds no transformer; choose another file")
    vocabulary, width = source.shapes["tok_emb.weight"]
    config = TransformerConfig(
        layers=source.count(r"blocks\.(\d+)\."),
        width=width,
        heads=heads,
        codebook_size=min(codes, vocabulary),
        vocab_size=vocabulary,
        prefix_length=prefix_length,
        window=WINDOW,
        unmasked=read_unmasked(source),
    )
    if source.shapes["pos_emb"][1] < config.context - 1:
        raise ValueError(
            f"{name} sees {source.shapes['pos_emb'][1]} tokens, too few for {prefix_length} of the condition and "
            f"{WINDOW**2} cells; give its YAML or the kind of condition"
        )
    readers = {ours: lambda n=n: source.read(n) for n, ours in names.items()}
    for i in range(config.layers):
        fuse_qkv(readers, f"blocks.{i}.attn.")
    readers["pos_emb"] = lambda: fit_positions(source.read("pos_emb"), config.context)
    readers["head.weight"] = lambda: source.read("head.weight")[: config.codebook_size]
    with torch.device("meta"):
        model = Transformer(config)
    return load_lazily(model, readers, name)


def fuse_qkv(readers: dict[str, Callable[[], Tensor]], prefix: str) -> None:
    """Three products become one: stack queries, keys and values in this order."""
    for kind in ("weight", "bias"):
        parts = [readers.pop(f"{prefix}{part}.{kind}", None) for part in ("query", "key", "value")]
        if None not in parts:
            readers[f"{prefix}qkv.{kind}"] = lambda parts=parts: torch.cat([read() for read in parts])


def fit_positions(positions: Tensor, context: int) -> Tensor:
    """Position embeddings [1, T, C] for `context` tokens. The released 511-token windows never use a last
    row, so one that is missing is filled with zeros."""
    missing = max(0, context - positions.shape[1])
    return nn.functional.pad(positions[:, :context], (0, 0, 0, missing))


def read_unmasked(source: Source) -> int:
    """The released `n_unmasked`: ones beyond the first in the first row of the stored mask."""
    name = "blocks.0.attn.mask"
    if name not in source.shapes:
        return 0
    ones = int(source.read(name)[0, 0, 0].sum())
    return ones if ones > 1 else 0


def kind_of_yaml(params: dict[str, Any]) -> ConditionKind | None:
    """What the YAML says about the condition; None if it says nothing."""
    stage = params.get("cond_stage_config")
    if params.get("unconditional") or stage == "__is_unconditional__":
        return "none"
    target = stage.get("target") if isinstance(stage, dict) else None
    if target in CONDITION_OF_TARGET:
        return CONDITION_OF_TARGET[target]
    if stage is not None and stage != "__is_first_stage__" and target not in VQGAN_TARGETS:
        raise ValueError(f"cond_stage_config has target {target!r}, which is not known here")
    if target == "taming.models.vqgan.VQSegmentationModel":
        return "segmentation"
    return {"depth": "depth", "segmentation": "segmentation", "edge": "edges", "edges": "edges"}.get(
        params.get("cond_stage_key", "")
    )


def kind_of_shapes(condition: tuple[int, ...] | None, context: int, name: str) -> ConditionKind:
    """What shapes and file name say about the condition."""
    if condition is not None and condition[1] != 3:
        return "depth" if condition[1] == 1 else "segmentation"
    if condition is None and context == 2 * WINDOW**2:
        return "coordinates"
    if condition is None and context == WINDOW**2 + 92:
        return "layout"
    if condition is None and re.search(r"cin|imagenet", name, re.IGNORECASE):
        return "class"
    if condition is None and re.search(r"ffhq|celeba|faces", name, re.IGNORECASE):
        return "none"
    raise ValueError(f"{name} does not tell what guides it; give its YAML, or the kind of condition")


def labels_of(kind: ConditionKind, params: dict[str, Any], prior: TransformerConfig, condition: VQGAN | None) -> int:
    """How many labels the condition has."""
    stage = params.get("cond_stage_config")
    given = stage.get("params", {}) if isinstance(stage, dict) else {}
    match kind:
        case "segmentation":
            return condition.config.image_channels
        case "class":
            return given.get("n_classes", 1000)
        case "coordinates":
            return given.get("n_embed", prior.vocab_size)
    return 0


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A released YAML's `model` entry: its target, known here, and its params.

    Raises:
        ValueError: not plain YAML, or a target that is not known here.
    """
    path = Path(path)
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path.name} is not plain YAML: {' '.join(str(error).split())[:200]}") from error
    model = tree.get("model", tree) if isinstance(tree, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("params"), dict):
        raise ValueError(f"{path.name} describes no model; give the YAML that came with the checkpoint")
    if model.get("target") not in VQGAN_TARGETS | TRANSFORMER_TARGETS:
        raise ValueError(f"{path.name} describes a {model.get('target')!r}, which is not known here")
    return model


def map_names(source: Source, rules: Rules, file: str) -> dict[str, str]:
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
        raise ValueError(f"{file} holds tensors that are not known here: {', '.join(unknown[:3])}{more}")
    return names


def load_lazily(model: nn.Module, readers: dict[str, Callable[[], Tensor]], name: str) -> Any:
    """Fill `model`, made without memory, tensor by tensor; linear layers' weights fit 1x1 convolutions."""
    wanted = model.state_dict()
    tensors = {}
    for ours, read in readers.items():
        tensor = read()
        if ours in wanted and tensor.ndim == 2 and wanted[ours].ndim == 4:
            tensor = tensor[..., None, None]
        tensors[ours] = tensor
    load_strictly(model, tensors, name)
    return model
