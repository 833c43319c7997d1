"""ComfyUI's pictures and masks to ours and back: the only place where the two conventions meet.

IMAGE [B, H, W, C] in 0..1 <-> [B, C, H, W] in -1..1; MASK [B, H, W] or [H, W] in 0..1.
"""

import torch
from torch import Tensor

from . import host


def from_image(image: Tensor) -> Tensor:
    """IMAGE -> [B, 3, H, W] in -1..1; an alpha channel is left out, as ComfyUI's own nodes do."""
    return image[..., :3].movedim(-1, 1).float().clamp(0, 1) * 2 - 1


def to_image(images: Tensor) -> Tensor:
    """[B, 1 or 3, H, W] in -1..1 -> IMAGE, where ComfyUI wants it."""
    images = images.float().clamp(-1, 1).expand(-1, 3, -1, -1).movedim(1, -1)
    return ((images + 1) / 2).to(host.output_device())


def from_mask(mask: Tensor) -> Tensor:
    """MASK -> [B, H, W] in 0..1."""
    return torch.atleast_3d(mask.unsqueeze(0) if mask.ndim == 2 else mask).float().clamp(0, 1)


def to_mask(values: Tensor) -> Tensor:
    """[B, H, W] -> MASK, clamped, where ComfyUI wants it."""
    return values.float().clamp(0, 1).to(host.output_device())
