"""The kinds of prior that a model file may hold, by the name it gives them."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from .any_order import AnyOrderLlama
from .llama import Llama, LlamaConfig
from .snail.pixelsnail import PixelSnail, PixelSnailConfig
from .transformer import Transformer, TransformerConfig

PriorModule = Transformer | Llama | AnyOrderLlama | PixelSnail


class PriorKind(NamedTuple):
    """A prior's module and its configuration."""

    module: type[PriorModule]
    config: type


PRIOR_KINDS = {
    "transformer": PriorKind(Transformer, TransformerConfig),
    "llama": PriorKind(Llama, LlamaConfig),
    "any-order": PriorKind(AnyOrderLlama, LlamaConfig),
    "pixelsnail": PriorKind(PixelSnail, PixelSnailConfig),
}


def kind_of_prior(prior: nn.Module) -> str:
    """The name of a prior's kind."""
    return next(name for name, kind in PRIOR_KINDS.items() if type(prior) is kind.module)
