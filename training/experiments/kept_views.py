"""Views of pictures that are rendered once, so that several systems learn the same ones and none waits for them."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...core.storage.fingerprint import fingerprint
from ...core.storage.tensors import load_tensors, save_tensors
from ..data.folder import ImageViews


class KeptViews(Dataset):
    """The first view of each picture as `ImageViews` gives it, color only; kept in a file below `folder`."""

    source = None

    def __init__(self, views: ImageViews, folder: Path):
        self.config = views.config
        files = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in views.paths]
        made_from = fingerprint(str(files), views.config, views.seed, views.augment)
        path = folder / f"views-{made_from[:16]}.safetensors"
        if not path.is_file():
            pixels = torch.stack([pixels_of(views[0, i]["color"]) for i in range(len(views))])
            save_tensors(path, "views", {"pixels": pixels}, {})
        self.pixels = load_tensors(path, "views", {"pixels"}, math.inf)[0]["pixels"]  # [N, 3, H, W] uint8

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        """`color` [3, H, W] in -1..1, alike in every epoch."""
        return {"color": self.pixels[key[1]] / 127.5 - 1}


def pixels_of(image: Tensor) -> Tensor:
    """-1..1 -> 0..255 uint8"""
    return ((image + 1) * 127.5).round().byte()
