"""What travels between nodes as a model: our modules, each with its handle for ComfyUI's memory management."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..core import atlas, opening
from ..core.bundle import Bundle
from ..core.canvas import Canvas
from ..core.memory import codec_memory, sampling_memory
from ..core.vqgan import VQGAN
from . import host


@dataclass(frozen=True, eq=False)
class VQGANHandle:
    """A VQGAN, ready to be put on the device."""

    module: VQGAN
    patcher: host.ModelPatcher

    def ready(self, height: int, width: int) -> VQGAN:
        """On the device, with room to encode or decode a picture of so many pixels."""
        host.make_room([self.patcher], codec_memory(self.module, height, width))
        return self.module

    def ready_for(self, canvas: Canvas) -> VQGAN:
        """On the device, with room to decode a canvas."""
        return self.ready(*(side * self.module.config.stride for side in canvas.size))

    def ready_for_atlas(self) -> VQGAN:
        """On the device, with room to decode a part of the codebook atlas."""
        side = 2 * atlas.SIDE * self.module.config.stride
        return self.ready(side, side)

    def ready_for_latents(self, latents: torch.Tensor) -> VQGAN:
        """On the device, with room to decode latents [B, D, h, w]."""
        return self.ready(*(side * self.module.config.stride for side in latents.shape[-2:]))


@dataclass(frozen=True, eq=False)
class BundleHandle:
    """A bundle, ready to be put on the device. `name` changes with the file it came from."""

    name: str
    bundle: Bundle
    vqgan: VQGANHandle
    prior: host.ModelPatcher
    condition: VQGANHandle | None

    @property
    def side(self) -> int:
        """Pixels a side of the prior's window."""
        return self.bundle.prior.config.window * self.bundle.vqgan.config.stride

    def ready_to_sample(self, batch: int, height: int, width: int) -> Bundle:
        """Prior and decoder on the device, with room to sample `batch` pictures of so many pixels and show them."""
        memory = sampling_memory(self.bundle.prior, batch) + codec_memory(self.bundle.vqgan, height, width)
        host.make_room([self.prior, self.vqgan.patcher], memory)
        return self.bundle

    def ready_for_condition(self, height: int, width: int) -> Bundle:
        """The condition's VQGAN on the device, if there is one, with room for a condition picture of so many pixels."""
        factor = max(1, self.bundle.condition_config.factor)
        if self.condition is not None:
            self.condition.ready(height * factor, width * factor)
        return self.bundle


def handle_of(vqgan: VQGAN) -> VQGANHandle:
    """A handle for a VQGAN."""
    return VQGANHandle(vqgan, host.patcher_of(vqgan))


def open_bundle(name: str) -> BundleHandle:
    """Load a bundle, or a released transformer, from the model folders; errors as `opening.open_bundle`."""
    with torch.inference_mode(False):  # ComfyUI's inference mode would mark the weights for ever
        bundle = opening.open_bundle(host.model_path(host.PRIOR_FOLDER, name))
    condition = handle_of(bundle.condition_vqgan) if bundle.condition_vqgan is not None else None
    fingerprint = host.model_fingerprint(host.PRIOR_FOLDER, name)
    return BundleHandle(fingerprint, bundle, handle_of(bundle.vqgan), host.patcher_of(bundle.prior), condition)


def open_vqgan(name: str) -> VQGANHandle:
    """Load a VQGAN, ours or released, from the model folders; errors as `opening.open_vqgan`."""
    with torch.inference_mode(False):
        return handle_of(opening.open_vqgan(host.model_path(host.VQGAN_FOLDER, name)))
