"""The priors that `train prior` can make: one table, kind -> how it is built from the run's sizes and the codes'."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ...core.priors.llama import Llama, LlamaConfig
from ...core.priors.snail.pixelsnail import PixelSnail, PixelSnailConfig
from ...core.priors.transformer import Transformer, TransformerConfig
from ..config.runs import PriorModelConfig

LearnedPrior = Transformer | Llama | PixelSnail
HIDDEN_STEP = 32  # widths of the MLP are multiples of it


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


def _llama(model: PriorModelConfig, codes: Codes) -> Llama:
    hidden = max(1, round(model.width * 8 / 3 / HIDDEN_STEP)) * HIDDEN_STEP  # a block as large as a transformer's
    sizes = {"layers": model.layers, "width": model.width, "heads": model.heads, "hidden": hidden}
    of_codes = {"codebook_size": codes.codebook_size, "prefix_rows": codes.vocab_size - codes.codebook_size}
    lengths = {"prefix_length": codes.prefix_length, "window": codes.window}
    return Llama(LlamaConfig(**sizes, **of_codes, **lengths, prefix_rotation="identity"))


def _pixelsnail(model: PriorModelConfig, codes: Codes) -> PixelSnail:
    sizes = {"blocks": model.blocks, "layers": model.layers, "width": model.width, "dropout": model.dropout}
    return PixelSnail(PixelSnailConfig(**sizes, kernel=model.kernel, **codes._asdict()))


PRIOR_MODELS: dict[str, Callable[[PriorModelConfig, Codes], LearnedPrior]] = {
    "transformer": _transformer,
    "llama": _llama,
    "pixelsnail": _pixelsnail,
}


def build_model(model: PriorModelConfig, codes: Codes) -> LearnedPrior:
    """A prior with its first weights."""
    return PRIOR_MODELS[model.kind](model, codes)
