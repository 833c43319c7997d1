"""A small random model that is asked by sketches."""

from pathlib import Path

import torch

from tessera.core.autoencoders.vqgan import VQGAN, VQGANConfig
from tessera.core.bundle import Bundle
from tessera.core.bundle_file import save_bundle
from tessera.core.conditions.config import ConditionConfig
from tessera.core.conditions.sketch import WORDS, SketchConfig, SketchEncoder
from tessera.core.conditions.vocabulary import Vocabulary
from tessera.core.priors.llama import Llama, LlamaConfig

VOCABULARY = Vocabulary(("flat", "noto"), ("strawberry", "red", "sun"), {"fresa": "strawberry"})


def save_sketch_bundle(path: Path, window: int) -> None:
    """Write it: 16 codes, cells of 16 pixels, a window of so many cells a side."""
    torch.manual_seed(0)
    vqgan = VQGAN(
        VQGANConfig(
            channels=32, channel_mult=(1, 1, 1, 1, 1), blocks_per_level=1, attention_levels=(), latent_channels=8,
            codebook_size=16, code_dim=4,
        )
    )  # fmt: skip
    prior = Llama(
        LlamaConfig(
            layers=2, width=32, heads=2, hidden=32, codebook_size=16, prefix_rows=VOCABULARY.rows,
            prefix_length=1 + WORDS, prefix_rotation="identity", window=window, control_layers=(0, 1),
        )
    )  # fmt: skip
    encoder = SketchEncoder(SketchConfig(width=32, layers=2))
    for name, parameter in (*prior.named_parameters(), *encoder.named_parameters()):
        if parameter.ndim > 1:  # strong enough for each token to count
            torch.nn.init.normal_(parameter, std=0.02 if "edges" in name or "colors" in name else 0.3)
    config = ConditionConfig(kind="sketch", offset=16)
    save_bundle(path, Bundle(vqgan, prior, config, control=encoder, vocabulary=VOCABULARY))
