"""CLIP files: our own, which hold their vocabulary, and the door to those and all released ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ..loading import is_native, open_released
from ..storage.model_file import (
    ModelFile,
    build_empty,
    config_from,
    load_part,
    part_config,
    read_model_file,
    table_from,
    write_model_file,
)
from .encoder import CLIP, CLIPConfig
from .layouts import Activation, plan_clip, read_clip, released_tokenizer
from .model import ClipModel
from .tokenizer import Tokenizer

TABLES = ("right_pairs", "like_pairs")  # of a ClipModel


def open_clip(path: str | Path, text_path: str | Path | None = None, activation: Activation = "auto") -> ClipModel:
    """A CLIP and its tokenizer, ready for use, in float32 on the CPU.

    Args:
        path: our model file, a released CLIP, or one that holds the image tower alone.
        text_path: the text tower with its projection, where it lies in a file of its own.
        activation: of a released CLIP, where its file can't tell.
    Raises:
        FileNotFoundError: no such file.
        ValueError: broken, hostile, or no CLIP that can be used here; one sentence that names the file.
    """
    if is_native(path):
        return _build(read_model_file(path))
    files = [open_released(part) for part in (path, text_path) if part]
    clip = read_clip(files, activation)
    tokenizer = released_tokenizer(clip.config.context)
    if tokenizer.vocab_size != clip.config.vocab_size:
        raise ValueError(
            f"{files[-1].path.name} has {clip.config.vocab_size} tokens, CLIP's vocabulary {tokenizer.vocab_size}; "
            "choose a CLIP with the usual vocabulary"
        )
    return ClipModel(clip, tokenizer)


def released_config(path: str | Path) -> CLIPConfig:
    """What a released CLIP is, its tensors unread; errors as `open_clip`."""
    return plan_clip([open_released(path)])[0]


def save_clip(path: str | Path, model: ClipModel, figures: dict[str, float] | None = None, **metadata: Any) -> None:
    """Write a CLIP with its vocabulary; `metadata` as for `write_model_file`."""
    tokenizer = model.tokenizer
    words = {
        "merges": [" ".join(pair) for pair in tokenizer.merges],
        "context": tokenizer.context,
        "plain_letters": tokenizer.plain_letters,
    }
    config = {"clip": dataclasses.asdict(model.clip.config), "tokenizer": words, "held_out": figures or {}}
    for name in TABLES:
        if (table := getattr(model, name)) is not None:
            config[name] = [round(cosine, 4) for cosine in table.tolist()]
    write_model_file(path, "clip", config, {"clip": model.clip.state_dict()}, **metadata)


def _build(file: ModelFile) -> ClipModel:
    name = file.path.name
    clip = build_empty(CLIP, config_from(CLIPConfig, part_config(file, "clip"), name), name)
    load_part(clip, file, "clip")
    words = part_config(file, "tokenizer")
    try:
        pairs = [pair.split(" ") for pair in words["merges"]]
        tokenizer = Tokenizer([(a, b) for a, b in pairs], words["context"], words["plain_letters"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{name} has no readable vocabulary ({error}); fetch it again") from error
    if (tokenizer.vocab_size, tokenizer.context) != (clip.config.vocab_size, clip.config.context):
        raise ValueError(f"{name}: its vocabulary does not fit its text tower; fetch it again")
    return ClipModel(clip, tokenizer, *(table_from(file.config.get(table), name) for table in TABLES))
