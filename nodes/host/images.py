"""ComfyUI's pictures and masks to ours and back: the only place where the two conventions meet.

IMAGE [B, H, W, C] in 0..1 <-> [B, C, H, W] in -1..1; MASK [B, H, W] or [H, W] in 0..1;
LATENT {"samples": [B, D, h, w]}, with what overhangs beside it.
"""

from typing import Any

import torch
from torch import Tensor

from ...core.canvas.codec import padding_of
from . import comfy


def from_image(image: Tensor) -> Tensor:
    """IMAGE -> [B, 3, H, W] in -1..1; an alpha channel is left out, as ComfyUI's own nodes do."""
    return image[..., :3].movedim(-1, 1).float().clamp(0, 1) * 2 - 1


def to_image(images: Tensor) -> Tensor:
    """[B, 1 or 3, H, W] in -1..1 -> IMAGE, where ComfyUI wants it."""
    images = images.float().clamp(-1, 1).expand(-1, 3, -1, -1).movedim(1, -1)
    return ((images + 1) / 2).to(comfy.output_device())


def channels_first(image: Tensor) -> Tensor:
    """IMAGE -> [B, 3, H, W], its values as they are, for what only lays pictures side by side or over each other."""
    return image[..., :3].movedim(-1, 1).float()


def channels_last(images: Tensor) -> Tensor:
    """[B, 3, H, W] in 0..1 -> IMAGE, its values as they are."""
    return images.movedim(1, -1).contiguous().to(comfy.output_device())


def from_mask(mask: Tensor) -> Tensor:
    """MASK -> [B, H, W] in 0..1, beside the canvases on the CPU."""
    return (mask.unsqueeze(0) if mask.ndim == 2 else mask).float().clamp(0, 1).cpu()


def constant_mask(value: float) -> Tensor:
    """One value everywhere, [1, 1, 1]."""
    return torch.full((1, 1, 1), value)


def to_mask(values: Tensor) -> Tensor:
    """[B, H, W] -> MASK, clamped, where ComfyUI wants it."""
    return values.float().clamp(0, 1).to(comfy.output_device())


def to_latent(latents: Tensor, size: tuple[int, int], stride: int) -> dict[str, Any]:
    """Latents [B, D, h, w] of pictures of `size` pixels -> LATENT."""
    padding = (*padding_of(*size, stride), *latents.shape[-2:])
    return {"samples": latents.to(comfy.output_device()), "tessera_overhang": padding}


def from_latent(latent: dict[str, Any]) -> tuple[Tensor, tuple[float, float]]:
    """LATENT -> latents and what overhangs: nothing where another node has changed their size."""
    latents = latent["samples"]
    bottom, right, *size = latent.get("tessera_overhang", (0.0, 0.0))
    return latents.float(), (bottom, right) if size == list(latents.shape[-2:]) else (0.0, 0.0)
