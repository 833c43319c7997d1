"""What travels between nodes as a model: our modules, each with its handle for ComfyUI's memory management."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..core.bundle import Bundle, load_bundle
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


@dataclass(frozen=True, eq=False)
class BundleHandle:
    """A bundle, ready to be put on the device."""

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
        """The condition's VQGAN on the device, if there is one, with room for a picture of so many pixels."""
        if self.condition is not None:
            self.condition.ready(height, width)
        return self.bundle


def handle_of(vqgan: VQGAN) -> VQGANHandle:
    """A handle for a VQGAN."""
    return VQGANHandle(vqgan, host.patcher_of(vqgan))


def open_bundle(name: str) -> BundleHandle:
    """Load a bundle from the model folders; errors as `load_bundle`."""
    with torch.inference_mode(False):  # ComfyUI's inference mode would mark the weights for ever
        bundle = load_bundle(host.model_path(host.PRIOR_FOLDER, name))
    condition = handle_of(bundle.condition_vqgan) if bundle.condition_vqgan is not None else None
    return BundleHandle(bundle, handle_of(bundle.vqgan), host.patcher_of(bundle.prior), condition)
