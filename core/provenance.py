"""A picture that remembers its codes: the canvas and the VQGAN's fingerprint as text inside the PNG, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image, UnidentifiedImageError

from .canvas import Canvas
from .fingerprint import fingerprint
from .vqgan import VQGAN

KEY = "tessera"  # of the text in the PNG
FORMAT = "tessera/1"


class Note(NamedTuple):
    """What a picture remembers."""

    canvas: Canvas  # of this picture alone
    vqgan: str  # fingerprint of the weights that decoded it


def weights_fingerprint(vqgan: VQGAN) -> str:
    """Equal for equal weights, wherever they came from."""
    return fingerprint(*(part for pair in sorted(vqgan.state_dict().items()) for part in pair))


def write_note(canvas: Canvas, picture: int, vqgan: str) -> str:
    """One picture of a canvas and the fingerprint of its VQGAN as text."""
    content = {
        "format": FORMAT,
        "vqgan": vqgan,
        "indices": canvas.indices[picture].tolist(),
        "known": canvas.known[picture].int().tolist(),
        "overhang": canvas.overhang,
        "wrap": canvas.wrap,
    }
    return json.dumps(content, separators=(",", ":"))


def read_note(path: str | Path) -> Note:
    """What a PNG remembers.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no picture, or one that remembers nothing, or nothing that can be used.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give the path of a PNG")
    try:
        with Image.open(path) as picture:
            text = picture.info.get(KEY)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path.name} can't be read as a picture ({error}); choose another file") from error
    if not isinstance(text, str):
        raise ValueError(f"{path.name} holds no canvas; only pictures that Save Picture and Canvas wrote do")
    try:
        content = json.loads(text)
        indices, known = (torch.tensor(content[name], dtype=torch.int64)[None] for name in ("indices", "known"))
        if content["format"] != FORMAT or int(indices.min()) < 0:
            raise ValueError("unknown format")
        down, right = content["overhang"]
        canvas = Canvas(indices, known.bool(), (float(down), float(right)), content.get("wrap", "none"))
        return Note(canvas, str(content["vqgan"]))
    except (KeyError, TypeError, ValueError, RuntimeError, RecursionError, OverflowError) as error:
        raise ValueError(f"{path.name} holds a canvas that can't be read ({error}); choose another file") from error


def check_vqgan(note: Note, vqgan: VQGAN, name: str) -> None:
    """Raise ValueError unless these weights decoded the picture called `name`."""
    if weights_fingerprint(vqgan) != note.vqgan:
        raise ValueError(
            f"{name} was decoded by another VQGAN, whose fingerprint begins with {note.vqgan[:8]}; "
            "use that one, or leave vqgan open to decode its codes with any"
        )
