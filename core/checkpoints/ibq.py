"""IBQ's tokenizers (SEED-Voken, Apache-2.0, arXiv:2412.02692): taming's network whose code is the largest product.

Tensors are named and shaped as taming's, and neither family says what it is. All of IBQ's have four blocks a level and
were saved by Lightning 2, under which taming's and latent diffusion's code can't run; those have two blocks. So a file
with both signs is IBQ's, one with neither is not, and one sign alone leaves it to the file's name or a YAML. Their own
scripts use the moving averages of the weights, which lie beside them under names without dots.
"""

from __future__ import annotations

import re

from .reader import Checkpoint
from .taming_yaml import IBQ, ModelYaml
from .tensor_names import Source

BLOCKS = 4  # a level
AVERAGES = "model_ema."


def is_ibq(checkpoint: Checkpoint, blocks: int, model: ModelYaml | None) -> bool:
    """Whether a VQGAN that looks like taming's is IBQ's; a YAML decides, then the file's name, then the signs.

    Raises:
        ValueError: the signs disagree.
    """
    if model is not None:
        return model.target == IBQ
    if re.search(r"(?:^|[^a-z])ibq(?:[^a-z]|$)", checkpoint.path.name, re.IGNORECASE):
        return True
    newer = re.match(r"[2-9]|\d\d", checkpoint.lightning) is not None
    if newer != (blocks == BLOCKS):
        raise ValueError(
            f"{checkpoint.path.name} may be a tokenizer of IBQ or of taming transformers, which choose their codes by "
            f"different rules; put its YAML beside it as {checkpoint.path.stem}.yaml, or ibq into its name"
        )
    return newer


class AveragedSource(Source):
    """The tensors of a file, each by its moving average where that is stored."""

    def __init__(self, checkpoint: Checkpoint, prefix: str):
        super().__init__(checkpoint, prefix)
        self.averages = {name: AVERAGES + name.replace(".", "") for name in self.shapes}

    def stored(self, name: str) -> str:
        """The averages' name where they are there and of the same shape."""
        average = self.averages.get(name, "")
        return average if self.shapes.get(average) == self.shapes[name] else name
