"""An image that remembers its codes and how they were painted, as text inside the PNG, and back."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn

from .canvas.canvas import Canvas
from .geometry import Wrap
from .sampling.noise import DRAW
from .sampling.settings import SamplingSettings
from .sampling.windows import Sliding
from .storage.door import brief, existing_file
from .storage.fingerprint import fingerprint

MAX_NOTE_LENGTH = 16 * 2**20  # letters; a canvas of 1024 x 1024 cells takes half of that
KEY = "tessera"  # of the text in the PNG
FORMAT = "tessera/1"


class Note(NamedTuple):
    """What the PNG holds."""

    canvas: Canvas  # of this image alone
    vqgan: str  # fingerprint of the weights that decoded it


def weights_fingerprint(model: nn.Module) -> str:
    """Equal for equal weights, wherever they came from."""
    return fingerprint(*(part for pair in sorted(model.state_dict().items()) for part in pair))


def origin(prior: str, seed: int, settings: SamplingSettings, sliding: Sliding, wrap: Wrap = "none") -> str:
    """How one image was painted, as JSON: the fingerprint of the prior's weights, the seed of this very image,
    all settings (a temperature map and a bias of codes as their fingerprints), the window's way and the way to draw.
    Without "draw" it was one uniform number a cell: the seed then gives another image today."""
    values = dataclasses.asdict(settings)
    values["guidance"] = values.pop("guidance_scale")
    values |= {"stride": sliding.stride, "wrap": wrap, "draw": DRAW}
    if (bias := values.pop("bias")) is not None:
        values["bias"] = fingerprint(bias)[:16]
    if isinstance(values["temperature"], Tensor):
        values["temperature"] = f"map {fingerprint(values['temperature'])[:16]}"
    return json.dumps({"prior": prior, "seed": seed, **values})


def write_note(canvas: Canvas, image: int, vqgan: str) -> str:
    """One image of a canvas, its origin and the fingerprint of its VQGAN as text."""
    content = {
        "format": FORMAT,
        "vqgan": vqgan,
        "indices": canvas.indices[image].tolist(),
        "known": canvas.known[image].int().tolist(),
        "overhang": canvas.padding,
        "wrap": canvas.wrap,
        "origin": canvas.provenance[image] if canvas.provenance else "",
    }
    return json.dumps(content, separators=(",", ":"))


def read_note(path: str | Path) -> Note:
    """What a PNG remembers.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no image, or one that remembers nothing, or nothing that can be used.
    """
    path = existing_file(path, "a PNG")
    try:
        with Image.open(path) as image:
            text = image.info.get(KEY)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path.name} can't be read as a picture ({brief(error)}); choose another file") from error
    if not isinstance(text, str):
        raise ValueError(f"{path.name} holds no canvas; only images saved with their canvas do")
    if len(text) > MAX_NOTE_LENGTH:
        raise ValueError(f"{path.name} holds a note of {len(text)} letters, too long for a canvas; choose another file")
    try:
        content = json.loads(text)
        indices, known = (torch.tensor(content[name], dtype=torch.int64)[None] for name in ("indices", "known"))
        if content["format"] != FORMAT or int(indices.min()) < 0:
            raise ValueError("unknown format")
        down, right = content["overhang"]
        wrap, provenance = content.get("wrap", "none"), (str(content.get("origin", "")),)
        canvas = Canvas(indices, known.bool(), (float(down), float(right)), wrap, provenance)
        return Note(canvas, str(content["vqgan"]))
    except (KeyError, TypeError, ValueError, RuntimeError, RecursionError, OverflowError) as error:
        problem = brief(error)
        raise ValueError(f"{path.name} holds a canvas that can't be read ({problem}); choose another file") from error


def check_vqgan(note: Note, vqgan: str, name: str) -> None:
    """Raise ValueError unless weights of this fingerprint decoded the image called `name`."""
    if vqgan != note.vqgan:
        raise ValueError(
            f"{name} was decoded by another VQGAN, whose fingerprint begins with {note.vqgan[:8]}; "
            "use that one, or decode its codes with any by leaving the VQGAN out"
        )
