"""A random Image-GPT in the layout of the published ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import ImageGPTForCausalImageModeling

COLORS = 12


def random_image_gpt(folder: Path, side: int) -> tuple[ImageGPTForCausalImageModeling, Tensor]:
    """A model of so many pixels a side, and its palette [K, 3], which is in the folder then; its weights are not."""
    from transformers import ImageGPTConfig, ImageGPTForCausalImageModeling

    torch.manual_seed(0)
    config = ImageGPTConfig(vocab_size=COLORS + 1, n_positions=side * side, n_embd=64, n_layer=2, n_head=1)
    model = ImageGPTForCausalImageModeling(config).eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.1 * torch.randn_like(weights))
    colors = torch.rand(COLORS, 3) * 2 - 1
    (folder / "preprocessor_config.json").write_text(json.dumps({"clusters": colors.tolist()}))
    return model, colors
