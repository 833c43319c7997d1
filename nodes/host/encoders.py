"""Text encoders in ComfyUI's folders."""

from __future__ import annotations

from pathlib import Path

import folder_paths
import torch

from ...core.conditions.text import TextEncoder, TextFeatures
from . import comfy

NONE = "no T5 folder in models/text_encoders yet"
OVERHEAD = 2**28  # bytes of one prompt's activations
PARAMETERS = 1_290_000_000  # of FLAN-T5-XL's encoder


def text_encoders() -> list[str]:
    """Names for a combo: folders below models/text_encoders that hold a model as Hugging Face stores it."""
    names = {
        Path(name).parent.as_posix() for name in folder_paths.get_filename_list(comfy.TEXT_FOLDER) if _folder_of(name)
    }
    return sorted(names) or [NONE]


def missing_encoder(name: str | None) -> str | None:
    """What to say about a folder that is not there; None if it is, or if its name comes over a wire."""
    if name is None or (name != NONE and name in text_encoders()):
        return None
    return (
        f"{name!r} is not in models/text_encoders; put FLAN-T5-XL there as a folder with config.json, its tokenizer "
        "and its weights, press R, and choose it"
    )


def encode_prompt(name: str, prompt: str) -> TextFeatures:
    """Features of a prompt; the encoder leaves memory afterwards. Errors as `TextEncoder`."""
    file = next(one for one in folder_paths.get_filename_list(comfy.TEXT_FOLDER) if Path(one).parent.as_posix() == name)
    with torch.inference_mode(False):
        encoder = TextEncoder(_folder_of(file), comfy.weights_dtype(PARAMETERS))
    comfy.make_room([comfy.patcher_of(encoder.model)], OVERHEAD)
    return encoder.encode([prompt])


def _folder_of(name: str) -> Path | None:
    """The folder of a weights' file, if it holds a whole model."""
    path = folder_paths.get_full_path(comfy.TEXT_FOLDER, name)
    folder = Path(path).parent if path else None
    return folder if folder and (folder / "config.json").is_file() else None
