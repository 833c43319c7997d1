"""The priors that are measured: the released shapes, with random weights."""

import torch

from ..core.priors.llama import LlamaConfig
from ..core.priors.transformer import Transformer, TransformerConfig

SHAPES = {
    "12x512": TransformerConfig(layers=12, width=512, heads=8),
    "24x1024": TransformerConfig(layers=24, width=1024, heads=16),
}
QUICK_SHAPES = {"2x64": TransformerConfig(layers=2, width=64, heads=2, prefix_length=16, window=4)}
LLAMAGEN_B = LlamaConfig()
QUICK_LLAMAGEN = LlamaConfig(layers=2, width=64, heads=2, hidden=64, codebook_size=64, window=4)


def random_prior(config: TransformerConfig) -> Transformer:
    """A prior with random weights, for use."""
    torch.manual_seed(0)
    return Transformer(config).eval().requires_grad_(False)
