"""The priors that `train prior` can make: one table, kind -> how it is built from the run's sizes and the codes'."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ...core.priors.snail.pixelsnail import PixelSnail, PixelSnailConfig
from ...core.priors.transformer import Transformer, TransformerConfig
from ..config.runs import PriorModelConfig


class Codes(NamedTuple):
    """What the first stages decide of a prior's shape; see `TransformerConfig`."""

    codebook_size: int
    vocab_size: int
    prefix_length: int
    window: int


def _transformer(model: PriorModelConfig, codes: Codes) -> Transformer:
    sizes = {"layers": model.layers, "width": model.width, "heads": model.heads, "dropout": model.dropout}
    kinds = {"control": model.control, "order": model.order, "norm": model.norm, "activation": model.activation}
    prior = Transformer(TransformerConfig(**sizes, **kinds, **codes._asdict()))
    prior.init_grid_positions()
    return prior


def _pixelsnail(model: PriorModelConfig, codes: Codes) -> PixelSnail:
    sizes = {"blocks": model.blocks, "layers": model.layers, "width": model.width, "dropout": model.dropout}
    return PixelSnail(PixelSnailConfig(**sizes, kernel=model.kernel, **codes._asdict()))


PRIOR_MODELS: dict[str, Callable[[PriorModelConfig, Codes], Transformer | PixelSnail]] = {
    "transformer": _transformer,
    "pixelsnail": _pixelsnail,
}


def build_model(model: PriorModelConfig, codes: Codes) -> Transformer | PixelSnail:
    """A prior with its first weights."""
    return PRIOR_MODELS[model.kind](model, codes)
