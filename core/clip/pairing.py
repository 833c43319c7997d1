"""Two halves of a CLIP that another program holds in memory, as one of ours, if they really share a space.

That both have vectors of one width proves nothing, and a projection of words that a file lacked may hold anything. So
what is paired has to pass a test: plain squares of five colors get the names of their colors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from .layouts import Activation, Held, read_clip, released_tokenizer
from .model import ClipModel
from .scoring import score_texts

COLORS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 0.7, 0.0), "blue": (0.0, 0.0, 1.0), "yellow": (1.0, 1.0, 0.0),
          "black": (0.0, 0.0, 0.0)}  # fmt: skip
NEEDED = 4  # of five; by chance as many are right in one of 150 cases
IMAGES, WORDS = "visual_projection.weight", "text_projection.weight"


class Tower(NamedTuple):
    """One half: its tensors by Hugging Face's names, its projection included, and its activation."""

    tensors: Mapping[str, Tensor]
    activation: Callable[[Tensor], Tensor]


def pair_towers(images: Tower, words: Sequence[Tower], name: str = "this pair") -> ClipModel:
    """A CLIP of its own, in float32 on the CPU.

    Args:
        words: the text towers there are; the first whose vectors are as wide as those of pictures is taken.
        name: of the two, for messages.
    Raises:
        ValueError: no plain ViT, no words of that width, or two halves that share no space.
    """
    if IMAGES not in images.tensors or "vision_model.embeddings.class_embedding" not in images.tensors:
        raise ValueError(f"{name}: the half for pictures is no plain CLIP (a SigLIP or a DINOv2, for instance)")
    width = len(images.tensors[IMAGES])
    found = [len(tower.tensors[WORDS]) for tower in words if WORDS in tower.tensors]
    if width not in found:
        listed = " and ".join(map(str, found)) or "none"
        raise ValueError(
            f"{name}: pictures have vectors of {width}, words of {listed}; take both halves of one CLIP, or use Load "
            "CLIP"
        )
    text = [tower for tower in words if WORDS in tower.tensors][found.index(width)]
    activations: set[Activation] = {activation_of(tower.activation) for tower in (images, text)}
    if len(activations) > 1:
        raise ValueError(f"{name}: one half has GELU, the other QuickGELU; take both halves of one CLIP")
    held = Held(Path(name), {**images.tensors, **text.tensors})
    clip = read_clip([held], activations.pop())
    model = ClipModel(clip, released_tokenizer(clip.config.context))
    if clip.config.vocab_size != model.tokenizer.vocab_size:
        raise ValueError(f"{name}: words have {clip.config.vocab_size} tokens, CLIP {model.tokenizer.vocab_size}")
    check_space(model, name)
    return model


def activation_of(function: Callable[[Tensor], Tensor]) -> Activation:
    """Which of the two it is."""
    one = torch.ones(1)
    quick, plain = one * torch.sigmoid(1.702 * one), torch.nn.functional.gelu(one)
    value = function(one)
    return "quick_gelu" if (value - quick).abs() < (value - plain).abs() else "gelu"


def check_space(model: ClipModel, name: str) -> None:
    """ValueError unless at least `NEEDED` plain squares get the names of their colors."""
    squares = torch.tensor(list(COLORS.values()), device=model.clip.device).view(-1, 3, 1, 1).expand(-1, -1, 64, 64)
    scores = score_texts(model, squares, [f"a {color} square" for color in COLORS])
    right = int((scores.argmax(1) == torch.arange(len(COLORS), device=scores.device)).sum())
    if right < NEEDED or not scores.isfinite().all():
        raise ValueError(
            f"{name}: of {len(COLORS)} plain squares {right} got the name of their color, so words and pictures share "
            "no space (a file without the projection of words, or halves of different CLIPs); use Load CLIP"
        )
