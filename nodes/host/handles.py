"""What travels between nodes as a model: our modules, each with its handle for ComfyUI's memory management."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from ...core import loading
from ...core.autoencoders.strips.decoder import needs_strips
from ...core.autoencoders.strips.memory import decode_memory, encode_memory
from ...core.autoencoders.vqgan import VQGAN
from ...core.bundle import Bundle
from ...core.canvas import atlas
from ...core.canvas.canvas import Canvas
from ...core.canvas.codec import decode_canvas
from ...core.geometry import Wrap
from ...core.provenance import weights_fingerprint
from ...core.sampling.estimate import sampling_memory
from . import comfy

CONTROL_BYTES = 1500  # a pixel, while DINOv2 looks at it
LARGE_FILE = 10**9  # bytes
Precision = Literal["auto", "bf16", "float32"]
DTYPES = {"bf16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True, eq=False)
class VQGANHandle:
    """A VQGAN, ready to be put on the device. `name` changes with the file it came from."""

    module: VQGAN
    patcher: comfy.ModelPatcher
    name: str = ""

    @cached_property
    def fingerprint(self) -> str:
        """Of its weights."""
        return _fingerprint_once(self.name, self.module)

    def ready(self, height: int, width: int) -> VQGAN:
        """On the device, with room to encode a picture of this many pixels."""
        cells = (-(-side // self.module.config.stride) for side in (height, width))
        comfy.make_room([self.patcher], self._memory(encode_memory, tuple(cells)))
        return self.module

    def ready_for(self, canvas: Canvas) -> VQGAN:
        """As `ready_to_decode`, for a canvas."""
        return self.ready_to_decode(canvas.size, canvas.wrap)

    def ready_to_decode(self, size: tuple[int, int], wrap: Wrap = "none") -> VQGAN:
        """On the device, with room to decode a picture of `size` cells; the node says so where that goes in strips."""
        comfy.make_room([self.patcher], self.decoding_memory(size))
        if needs_strips(self.module, size, wrap=wrap):
            height, width = (side * self.module.config.stride for side in size)
            needed = decode_memory(self.module.config, *size, True) / 2**20
            comfy.say(f"Decoding {width}x{height} pixels in strips, {needed:.0f} MB at most")
        return self.module

    def decode(self, canvas: Canvas) -> Tensor:
        """The pictures of a canvas, as `decode_canvas`, with a bar and cancel."""
        with self.watched(canvas) as vqgan:
            return decode_canvas(vqgan, canvas)

    @contextmanager
    def watched(self, canvas: Canvas) -> Iterator[VQGAN]:
        """The module, on the device, while it decodes this canvas; with a bar and cancel."""
        with comfy.Watched(self.ready_for(canvas).decoder, len(canvas.indices)):
            yield self.module

    def decoding_memory(self, size: tuple[int, int]) -> int:
        """Bytes with which a picture of this many cells can be decoded, one way or the other."""
        return self._memory(decode_memory, size)

    def _memory(self, of: Callable[..., int], size: tuple[int, int]) -> int:
        return min(of(self.module.config, *size, strips) for strips in (False, True))

    def ready_for_atlas(self) -> VQGAN:
        """On the device, with room to decode a part of the codebook atlas."""
        side = 2 * atlas.SIDE * self.module.config.stride
        return self.ready(side, side)


@dataclass(frozen=True, eq=False)
class BundleHandle:
    """A bundle, ready to be put on the device. `name` changes with the file it came from."""

    name: str
    bundle: Bundle
    vqgan: VQGANHandle
    prior: comfy.ModelPatcher
    condition: VQGANHandle | None
    control: comfy.ModelPatcher | None = None

    @property
    def side(self) -> int:
        """Pixels a side of the prior's window."""
        return self.bundle.prior.window * self.bundle.vqgan.config.stride

    @property
    def stride(self) -> int:
        """Pixels a side of a cell."""
        return self.bundle.vqgan.config.stride

    @cached_property
    def prior_fingerprint(self) -> str:
        """Of the weights that paint."""
        return _fingerprint_once(f"{self.name} prior", self.bundle.prior)

    def ready_to_sample(self, canvas: Canvas, conditions: int = 1, memory: int | None = None) -> Bundle:
        """Prior and decoder on the device, with room to sample a canvas and show it.

        Args:
            conditions: that each window is read with; more than one where there is guidance.
            memory: bytes for sampling, if that is known better than for a canvas of one window.
        """
        memory = sampling_memory(self.bundle.prior, len(canvas.indices), conditions) if memory is None else memory
        comfy.make_room([self.prior, self.vqgan.patcher], memory + self.vqgan.decoding_memory(canvas.size))
        return self.bundle

    def ready_for_condition(self, height: int, width: int) -> Bundle:
        """The condition's VQGAN on the device, if there is one, with room for a picture of height x width pixels."""
        factor = max(1, self.bundle.condition_config.factor)
        if self.condition is not None:
            self.condition.ready(height * factor, width * factor)
        return self.bundle

    def ready_for_control(self, height: int, width: int) -> Bundle:
        """What controls cells on the device, if there is such, with room for a control picture of this many pixels."""
        if self.control is not None:
            comfy.make_room([self.control], CONTROL_BYTES * height * width)
        return self.bundle

    def ready_without_condition(self) -> Bundle:
        """The condition's VQGAN on the device, if it still has to tell what the model is given where nothing guides."""
        free = self.bundle.condition_config.unconditional and "unconditional" not in vars(self.bundle.condition_context)
        return self.ready_for_condition(self.side, self.side) if free else self.bundle


def handle_of(vqgan: VQGAN, name: str = "") -> VQGANHandle:
    """A handle for a VQGAN."""
    return VQGANHandle(vqgan, comfy.patcher_of(vqgan), name)


_fingerprints: dict[str, str] = {}  # of weights, by file, its time and size, and the part of it


def _fingerprint_once(name: str, module: nn.Module) -> str:
    """Of a module's weights; those of a file, whose name is not empty, are looked at once."""
    if not name or name not in _fingerprints:
        _fingerprints[name] = weights_fingerprint(module)
    return _fingerprints[name]


Handle = TypeVar("Handle", BundleHandle, VQGANHandle)
# Models that some graph still holds, by file and its time: two loaders of one file give one model.
_open: WeakValueDictionary[str, BundleHandle | VQGANHandle] = WeakValueDictionary()


def open_bundle(name: str, precision: Precision = "auto") -> BundleHandle:
    """Load a bundle, or a released transformer, from the model folders, once; errors as `loading.load`."""
    key = f"bundle {comfy.model_fingerprint(comfy.PRIOR_FOLDER, name)} {precision}"
    return _once(key, lambda: _load_bundle(name, precision))


def open_vqgan(name: str) -> VQGANHandle:
    """Load a VQGAN, ours or released, from the model folders, once; errors as `loading.load_vqgan`."""
    return _once(f"vqgan {comfy.model_fingerprint(comfy.VQGAN_FOLDER, name)}", lambda: _load_vqgan(name))


def _once(key: str, load: Callable[[], Handle]) -> Handle:
    handle = _open.get(key)
    if handle is None:
        handle = _open[key] = load()
    return handle


def _load_bundle(name: str, precision: Precision) -> BundleHandle:
    with torch.inference_mode(False):  # ComfyUI's inference mode would mark the weights for ever
        path = comfy.model_path(comfy.PRIOR_FOLDER, name)
        bundle = loading.load(path, prior_dtype=_prior_dtype(path, precision))
    fingerprint = comfy.model_fingerprint(comfy.PRIOR_FOLDER, name)
    vqgan, condition = handle_of(bundle.vqgan, f"{fingerprint} vqgan"), None
    if bundle.condition_vqgan is not None:  # one module has one handle, or ComfyUI would move it twice
        condition = vqgan if bundle.condition_vqgan is bundle.vqgan else handle_of(bundle.condition_vqgan)
    control = None if bundle.control is None else comfy.patcher_of(bundle.control)
    return BundleHandle(
        f"{fingerprint} {bundle.prior.dtype}", bundle, vqgan, comfy.patcher_of(bundle.prior), condition, control
    )


def _prior_dtype(path: Path, precision: Precision) -> torch.dtype:
    """What a prior is kept in. Where that is left open, large ones are kept as ComfyUI keeps diffusion models on this
    device; small ones, and those of 2021, in float32."""
    if precision != "auto":
        return DTYPES[precision]
    if path.stat().st_size < LARGE_FILE or not loading.has_llama_prior(path):
        return torch.float32
    return comfy.weights_dtype(path.stat().st_size // 4)


def _load_vqgan(name: str) -> VQGANHandle:
    with torch.inference_mode(False):
        vqgan = loading.load_vqgan(comfy.model_path(comfy.VQGAN_FOLDER, name))
    return handle_of(vqgan, f"{comfy.model_fingerprint(comfy.VQGAN_FOLDER, name)} vqgan")
