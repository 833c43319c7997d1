"""Small random models that are asked by words: by sketches, or by captions."""

from pathlib import Path

import torch

from tessera.core.autoencoders.vqgan import VQGAN, VQGANConfig
from tessera.core.bundle import Bundle
from tessera.core.bundle_file import save_bundle
from tessera.core.conditions.kinds import ConditionConfig
from tessera.core.conditions.sketch import WORDS, SketchConfig, SketchEncoder
from tessera.core.conditions.vocabulary import Vocabulary
from tessera.core.priors.llama import Llama, LlamaConfig
from tessera.core.priors.transformer import Transformer, TransformerConfig

VOCABULARY = Vocabulary(("flat", "noto"), ("strawberry", "red", "sun"), {"fresa": "strawberry"})
CODES = 16


def _vqgan() -> VQGAN:
    """Cells of 16 pixels."""
    torch.manual_seed(0)
    shape = {"channels": 32, "channel_mult": (1, 1, 1, 1, 1), "blocks_per_level": 1, "attention_levels": ()}
    return VQGAN(VQGANConfig(**shape, latent_channels=8, codebook_size=CODES, code_dim=4))


def save_sketch_bundle(path: Path, window: int) -> None:
    """Write a model that is asked by sketches, with a window of so many cells a side."""
    vqgan = _vqgan()
    prior = Llama(
        LlamaConfig(
            layers=2, width=32, heads=2, hidden=32, codebook_size=CODES, prefix_rows=VOCABULARY.rows,
            prefix_length=1 + WORDS, prefix_rotation="identity", window=window, control_layers=(0, 1),
        )
    )  # fmt: skip
    encoder = SketchEncoder(SketchConfig(width=32, layers=2))
    for name, parameter in (*prior.named_parameters(), *encoder.named_parameters()):
        if parameter.ndim > 1:  # strong enough for each token to count
            torch.nn.init.normal_(parameter, std=0.02 if "edges" in name or "colors" in name else 0.3)
    config = ConditionConfig(kind="sketch", offset=CODES)
    save_bundle(path, Bundle(vqgan, prior, config, control=encoder, vocabulary=VOCABULARY))


def save_caption_bundle(path: Path, window: int) -> None:
    """Write a model that is asked by captions, with a window of so many cells a side."""
    vqgan = _vqgan()
    prior = Transformer(
        TransformerConfig(
            layers=2, width=32, heads=2, codebook_size=CODES, vocab_size=CODES + len(VOCABULARY.words) + 1,
            prefix_length=WORDS, window=window,
        )
    )  # fmt: skip
    save_bundle(
        path,
        Bundle(vqgan, prior, ConditionConfig(kind="words", offset=CODES, unconditional=True), vocabulary=VOCABULARY),
    )
