"""The released dVAE of DALL-E: encoder.pkl and decoder.pkl, two modules pickled whole, read as data."""

from __future__ import annotations

from pathlib import Path

from ..autoencoders.dvae import DVAE, DVAEConfig
from ..storage.model_file import config_from
from .reader import Checkpoint, open_checkpoint
from .taming import ModelPlan
from .tensor_names import Source

MARK = "blocks.group_1.block_1.res_path.conv_1.w"
FILES = {"encoder": "encoder.pkl", "decoder": "decoder.pkl"}


def is_dvae(shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether these are the tensors of either half."""
    return MARK in shapes and "blocks.input.w" in shapes


def plan_dvae(checkpoint: Checkpoint) -> ModelPlan:
    """How to make the dVAE of one of its files; the other one lies beside it.

    Raises:
        FileNotFoundError: it does not.
        ValueError: tensors of another shape than both have together.
    """
    halves = {name: Source(open_checkpoint(half(checkpoint.path, name)), "") for name in FILES}
    encoder, decoder = (halves[name].shapes.get("blocks.input.w", ()) for name in FILES)
    if len(encoder) != 4 or len(decoder) != 4:
        raise ValueError(f"{checkpoint.path.name} holds no dVAE, or a broken one; fetch both files again")
    first = [n for n in halves["encoder"].shapes if n.startswith("blocks.group_1.") and n.endswith(".conv_1.w")]
    values = {
        "hidden": encoder[0],
        "blocks_per_group": len(first),
        "codebook_size": decoder[1],
        "code_dim": decoder[0],
    }
    parts = {f"{part}.{name}": source.weight(name) for part, source in halves.items() for name in source.shapes}
    return ModelPlan(DVAE, config_from(DVAEConfig, values, checkpoint.path.name), parts)


def half(path: Path, name: str) -> Path:
    """The file of the encoder or the decoder, beside the one given."""
    beside = path.parent / FILES[name]
    if not beside.is_file():
        raise FileNotFoundError(f"{path.name} is half of a dVAE; put {FILES[name]} beside it")
    return beside
