"""Released checkpoints as our models.

Taming transformers (VQModel, GumbelVQ, VQSegmentationModel, Net2NetTransformer), latent diffusion
(VQModelInterface) and diffusers (VQModel) store the same networks. Everything but the number of attention
heads and the kind of condition can be read off the tensors' names and shapes; those come from the YAML beside
the checkpoint, or from what all releases have in common.

A plan is made first, from names and shapes alone; only when it fits are tensors read.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..autoencoders.vqgan import VQGAN, VQGANConfig
from ..bundle import Bundle
from ..bundle_file import make_bundle
from ..conditions.kinds import KINDS, ConditionConfig
from ..conditions.layout import PREFIX_LENGTH as LAYOUT_LENGTH
from ..priors.orders import ORDERS, Order, order_of_cells
from ..priors.transformer import Transformer, TransformerConfig
from ..storage.door import check_numbers
from ..storage.model_file import build_empty, check_shapes, config_from, in_precision
from .ibq import AveragedSource, is_ibq
from .reader import Checkpoint
from .taming_yaml import ModelYaml, branch, check_agreement, heads_of_yaml, kind_of_yaml, start_token
from .tensor_names import (
    Source,
    TensorSource,
    TensorSources,
    count,
    is_llamagen_tokenizer,
    keep_used_codes,
    transformer_parts,
    vqgan_parts,
)

logger = logging.getLogger("tessera")

RELEASED_HEADS = 16  # of every released transformer; the tensors don't show it
RELEASED_CLASSES = 1000  # of the released class-conditional transformer
WINDOW = 16  # cells a side, of every released transformer
FIRST_STAGE, CONDITION_STAGE, TRANSFORMER = "first_stage_model.", "cond_stage_model.", "transformer."

OnRead = Callable[[int], object]


class ModelPlan(NamedTuple):
    """A model to be: its configuration and where its tensors come from."""

    module: type[nn.Module]
    config: Any
    parts: TensorSources


class BundlePlan(NamedTuple):
    """A bundle to be."""

    vqgan: ModelPlan
    prior: ModelPlan
    condition: ConditionConfig
    condition_vqgan: ModelPlan | None


def released_vqgan(checkpoint: Checkpoint, prefix: str = "") -> VQGAN:
    """The VQGAN below `prefix` ("first_stage_model." and "cond_stage_model." in a transformer's checkpoint).

    Raises:
        ValueError: not a VQGAN, or missing, unknown or misshapen tensors, by name.
    """
    return materialize(plan_vqgan(checkpoint, prefix), checkpoint.path.name)


def released_bundle(
    checkpoint: Checkpoint,
    model: ModelYaml | None,
    kind: str | None = None,
    on_read: OnRead | None = None,
    prior_dtype: torch.dtype = torch.float32,
) -> Bundle:
    """First stage, condition and transformer of a Net2NetTransformer checkpoint.

    Args:
        model: the YAML beside it, or None.
        kind: of the condition, where neither YAML nor shapes tell.
        on_read: as for `materialize`.
        prior_dtype: of the transformer's weights.
    Raises:
        ValueError: as `released_vqgan`; the kind of condition can't be told; or it needs what is not known here.
    """
    return bundle_of_plan(plan_bundle(checkpoint, model, kind), checkpoint.path.name, on_read, prior_dtype)


def bundle_of_plan(
    plan: BundlePlan, name: str, on_read: OnRead | None = None, prior_dtype: torch.dtype = torch.float32
) -> Bundle:
    """The bundle that is planned of the file `name`; arguments as `released_bundle`."""
    condition_vqgan = materialize(plan.condition_vqgan, name, on_read) if plan.condition_vqgan else None
    vqgan, prior = materialize(plan.vqgan, name, on_read), materialize(plan.prior, name, on_read, prior_dtype)
    return make_bundle(name, vqgan, prior, plan.condition, condition_vqgan)


def plan_vqgan(checkpoint: Checkpoint, prefix: str = "", model: ModelYaml | None = None) -> ModelPlan:
    """What `released_vqgan` makes; `model` is the YAML of this VQGAN, to be compared."""
    source = Source(checkpoint, prefix)
    parts = vqgan_parts(source)
    config = vqgan_config({n: part.shape for n, part in parts.items()}, source.name, is_llamagen_tokenizer(source))
    plain = config.codebook == "nearest" and not config.normalize_codes
    if plain and is_ibq(checkpoint, config.blocks_per_level, model):
        parts = vqgan_parts(AveragedSource(checkpoint, prefix))
        config = replace(config, codebook="product")
    if model:
        check_vqgan_yaml(model, model.params, config, source.name)
    parts = keep_used_codes(source, parts)
    kept = next(part.shape[0] for n, part in parts.items() if n.startswith("codebook.") and n.endswith(".weight"))
    return ModelPlan(VQGAN, config_from(VQGANConfig, {**vars(config), "codebook_size": kept}, source.name), parts)


def vqgan_config(shapes: dict[str, tuple[int, ...]], name: str, normalize_codes: bool = False) -> VQGANConfig:
    """Read a VQGAN's configuration off our names of its tensors and their shapes; `normalize_codes` leaves no trace
    in them.

    Raises:
        ValueError: a tensor that it needs is missing or impossible; or another kind of model.
    """

    def shape(of: str, dimensions: int) -> tuple[int, ...]:
        found = shapes.get(of, ())
        if len(found) != dimensions or 0 in found:
            raise ValueError(f"{name} lacks {of} of a VQGAN, or has a broken one; fetch it again")
        return found

    if not {"encoder.conv_in.weight", "decoder.conv_in.weight"} <= shapes.keys():
        raise ValueError(f"{name} holds no encoder and decoder of a VQGAN; choose another file")
    levels = count(shapes, r"encoder\.down\.(\d+)\.", name)
    channels, image_channels = shape("encoder.conv_in.weight", 4)[:2]
    latent_channels = shape("decoder.conv_in.weight", 4)[1]
    if shape("encoder.conv_out.weight", 4)[0] == 2 * latent_channels:
        raise ValueError(f"{name} is an autoencoder of means and variances (KL), not a VQGAN; choose another file")
    blocks = count(shapes, r"encoder\.down\.0\.block\.(\d+)\.", name)
    widths = [shape(f"encoder.down.{i}.block.{blocks - 1}.conv2.weight", 4)[0] for i in range(levels)]
    gumbel = "codebook.proj.weight" in shapes
    codebook_size, code_dim = shape("codebook.embed.weight" if gumbel else "codebook.embedding.weight", 2)
    values = {
        "image_channels": image_channels,
        "channels": channels,
        "channel_mult": tuple(width // channels for width in widths),
        "blocks_per_level": blocks,
        "attention_levels": tuple(i for i in range(levels) if f"encoder.down.{i}.attn.0.norm.weight" in shapes),
        "latent_channels": latent_channels,
        "codebook_size": codebook_size,
        "code_dim": code_dim,
        "codebook": "gumbel" if gumbel else "nearest",
        "normalize_codes": normalize_codes,
    }
    return config_from(VQGANConfig, values, name)


def plan_bundle(checkpoint: Checkpoint, model: ModelYaml | None, kind: str | None = None) -> BundlePlan:
    """What `released_bundle` makes."""
    name, params = checkpoint.path.name, model.params if model else {}
    refuse_unknown(checkpoint, params)
    vqgan = plan_vqgan(checkpoint, FIRST_STAGE)
    source = Source(checkpoint, TRANSFORMER)
    context = (*source.shapes.get("pos_emb", ()), 0, 0, 0)[1]
    condition_shape = checkpoint.shapes.get(f"{CONDITION_STAGE}encoder.conv_in.weight")
    kind = kind or (kind_of_yaml(model) if model else None)
    kind = kind or kind_of_shapes(checkpoint, condition_shape, context, model)
    condition_vqgan, prefix_length = None, KINDS[kind].prefix_length(WINDOW)
    if KINDS[kind].has_vqgan:
        shared = params.get("cond_stage_config") == "__is_first_stage__"
        condition_vqgan = plan_vqgan(checkpoint, FIRST_STAGE if shared else CONDITION_STAGE)
        prefix_length = (WINDOW * vqgan.config.stride // condition_vqgan.config.stride) ** 2
    elif condition_shape is not None:
        raise ValueError(f"{name} holds a VQGAN for its condition, but a condition of kind {kind} has none")
    if model:
        check_vqgan_yaml(model, branch(params, "first_stage_config", "params"), vqgan.config, name)
    prior = plan_transformer(source, model, vqgan.config.codebook_size, prefix_length)
    values = {
        "kind": kind,
        "labels": labels_of(kind, params, prior.config, condition_vqgan),
        "offset": start_token(model) if kind == "none" and model else 0,
    }
    return BundlePlan(vqgan, prior, config_from(ConditionConfig, values, name), condition_vqgan)


def refuse_unknown(checkpoint: Checkpoint, params: dict) -> None:
    """ValueError for what our transformer and sampling loop can't do, and for tensors of no known part."""
    name = checkpoint.path.name
    known = (FIRST_STAGE, CONDITION_STAGE, TRANSFORMER, "permuter.", "loss.")
    unknown = [n for n in checkpoint.shapes if not n.startswith(known)]
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise ValueError(f"{name} holds tensors that are not known here: {', '.join(unknown[:3])}{more}")
    if read_order(checkpoint) is None:
        raise ValueError(f"{name} makes its cells in an order of its own (permuter), not one of {', '.join(ORDERS)}")
    if isinstance(size := params.get("downsample_cond_size"), int) and size > -1:
        raise ValueError(f"{name} shrinks its condition pictures to {size} pixels (downsample_cond_size), unknown here")


def read_order(checkpoint: Checkpoint) -> Order | None:
    """In which order a checkpoint makes its cells; None for one that is not known."""
    places = "permuter.forward_shuffle_idx"
    if places not in checkpoint.shapes:
        return "row"
    if checkpoint.shapes[places] != (WINDOW**2,):
        return None
    return order_of_cells(checkpoint.read(places).long().tolist(), WINDOW)


def plan_transformer(source: Source, model: ModelYaml | None, codes: int, prefix_length: int) -> ModelPlan:
    """The transformer among a checkpoint's tensors."""
    name, parts = source.name, transformer_parts(source)
    names = ("tok_emb.weight", "pos_emb", "head.weight")
    shapes: list[tuple[int, ...]] = [parts[n].shape if n in parts else () for n in names]
    if [len(shape) for shape in shapes] != [2, 3, 2]:
        raise ValueError(f"{name} holds no transformer, or a broken one; choose another file")
    (vocabulary, width), (_, length, _), _ = shapes
    layers = count(source.shapes, r"blocks\.(\d+)\.", name)
    heads = heads_of_yaml(model) if model else None
    if model:
        found = {"vocab_size": vocabulary, "block_size": length, "n_layer": layers, "n_embd": width}
        check_agreement(model, branch(model.params, "transformer_config", "params"), found, name)
    if heads is None:
        heads = RELEASED_HEADS
        logger.warning("%s: no YAML tells its number of attention heads; taking %d", name, heads)
    values = {
        "layers": layers,
        "width": width,
        "heads": heads,
        "codebook_size": min(codes, vocabulary),
        "vocab_size": vocabulary,
        "prefix_length": prefix_length,
        "window": WINDOW,
        "unmasked": read_unmasked(source),
        "order": read_order(source.checkpoint),
    }
    config = config_from(TransformerConfig, values, name)
    if length < config.context - 1:
        raise ValueError(
            f"{name} sees {length} tokens, too few for {prefix_length} of the condition and {WINDOW**2} cells; "
            "give the YAML that came with it"
        )
    positions, head = parts["pos_emb"], parts["head.weight"]
    parts["pos_emb"] = TensorSource((1, config.context, width), lambda: fit_positions(positions.read(), config.context))
    parts["head.weight"] = TensorSource((config.codebook_size, width), lambda: head.read()[: config.codebook_size])
    return ModelPlan(Transformer, config, parts)


def fit_positions(positions: Tensor, context: int) -> Tensor:
    """Position embeddings [1, T, C] for `context` tokens. The released 511-token windows never use a last
    row, so one that is missing is filled with zeros."""
    missing = max(0, context - positions.shape[1])
    return nn.functional.pad(positions[:, :context], (0, 0, 0, missing))


def read_unmasked(source: Source) -> int:
    """The released `n_unmasked`: ones beyond the first in the first row of the stored mask."""
    shape = source.shapes.get("blocks.0.attn.mask", ())
    if len(shape) != 4 or 0 in shape:
        return 0
    ones = int(source.read("blocks.0.attn.mask")[0, 0, 0].ne(0).sum())
    return ones if ones > 1 else 0


def kind_of_shapes(
    checkpoint: Checkpoint, condition: tuple[int, ...] | None, context: int, model: ModelYaml | None
) -> str:
    """What shapes and the names of file and folders say about the condition."""
    if condition is not None and len(condition) == 4 and condition[1] != 3:
        return "depth" if condition[1] == 1 else "segmentation"
    if condition is None and context == 2 * WINDOW**2:
        return "coordinates"
    if condition is None and context == WINDOW**2 + LAYOUT_LENGTH:
        return "layout"
    names = "/".join(checkpoint.path.absolute().parts[-3:])  # NAME/checkpoints/last.ckpt
    if condition is None and re.search(r"cin|imagenet", names, re.IGNORECASE):
        return "class"
    if condition is None and re.search(r"ffhq|celeba|faces", names, re.IGNORECASE):
        return "none"
    cure = f"put the YAML that came with it beside it as {checkpoint.path.stem}.yaml"
    if model:
        cure = f"{model.file} has cond_stage_key {str(model.params.get('cond_stage_key'))[:40]!r}, not known here"
    raise ValueError(f"{checkpoint.path.name} does not tell what guides it; {cure}")


def labels_of(kind: str, params: dict, prior: TransformerConfig, condition: ModelPlan | None) -> int:
    """How many labels the condition has."""
    given = branch(params, "cond_stage_config", "params")
    match kind:
        case "segmentation" if condition is not None:
            return condition.config.image_channels
        case "class":
            return given.get("n_classes", RELEASED_CLASSES)
        case "coordinates":
            return given.get("n_embed", prior.vocab_size)
    return 0


def check_vqgan_yaml(model: ModelYaml, params: dict, config: VQGANConfig, name: str) -> None:
    """ValueError if a VQGAN's entry of a YAML speaks of another one."""
    found = {"n_embed": config.codebook_size, "embed_dim": config.code_dim}
    if not params.get("remap"):
        check_agreement(model, params, found, name)
    network = {
        "z_channels": config.latent_channels,
        "in_channels": config.image_channels,
        "ch": config.channels,
        "num_res_blocks": config.blocks_per_level,
    }
    check_agreement(model, branch(params, "ddconfig"), network, name)


def materialize(plan: ModelPlan, name: str, on_read: OnRead | None = None, dtype: torch.dtype = torch.float32) -> Any:
    """Make the planned model, reading each tensor once.

    Args:
        dtype: of its weights; each is in memory in float32 no longer than it is being read.
        on_read: told the bytes of each tensor as it arrives in memory.
    Raises:
        ValueError: as `build_checked`.
    """
    model, tensors = build_checked(plan, name), {}
    # the largest first: what conversion to float32 gives back then has room for the next one
    for ours, part in sorted(plan.parts.items(), key=lambda item: -math.prod(item[1].shape)):
        tensors[ours] = in_precision(part.read(), dtype)
        if on_read:
            on_read(tensors[ours].nbytes)
    model.load_state_dict(tensors, assign=True)
    return model.eval().requires_grad_(False)


def build_checked(plan: ModelPlan, name: str) -> Any:
    """The planned model without memory, once it is sure that its tensors fit.

    Raises:
        ValueError: missing, unexpected or misshapen tensors of the file `name`, by name.
    """
    check_numbers(sum(math.prod(part.shape) for part in plan.parts.values()), name)
    model = build_empty(plan.module, plan.config, name)
    check_shapes(model, {n: part.shape for n, part in plan.parts.items()}, name)
    return model
