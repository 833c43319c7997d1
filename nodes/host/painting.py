"""Guided synthesis under ComfyUI: models made ready, bar, pictures on the way, cancel, and going on after it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from ...core.autoencoders.vqgan import VQGAN
from ...core.canvas.canvas import Canvas
from ...core.clip.clip_file import open_clip
from ...core.clip.guidance import GuidanceSettings, GuidanceState, guide_steps
from ...core.clip.layouts import Activation
from ...core.clip.model import ClipModel
from ...core.clip.painting import Frame, estimate_step, guidance_memory, painted_canvas
from ...core.clip.prompts import Prompt
from ...core.clip.scoring import score_images, score_texts
from ...core.images.io import to_pil
from ...core.storage.fingerprint import fingerprint
from . import comfy
from .handles import VQGANHandle

MOST_KEPT = 20  # cancelled runs
ENCODING = 64 * 2**20  # bytes for a few pictures or texts

_cancelled: OrderedDict[str, GuidanceState] = OrderedDict()


@dataclass(frozen=True, eq=False)
class ClipHandle:
    """A CLIP, ready to be put on the device. `name` changes with the file it came from."""

    name: str
    model: ClipModel
    patcher: comfy.ModelPatcher

    def ready(self) -> ClipModel:
        """On the device, with room to encode a few pictures or texts."""
        comfy.make_room([self.patcher], ENCODING)
        return self.model

    def score(self, images: Tensor, text: str) -> Tensor:
        """Cosines of images [B, 3, H, W] in -1..1 with a text, [B] on the CPU; with a bar and cancel."""
        with self.watched(len(images)) as model:
            return score_texts(model, (images + 1) / 2, [text]).mean(1).cpu()

    def compare(self, images: Tensor, references: Tensor) -> Tensor:
        """Cosines of images with reference images, both [., 3, H, W] in -1..1: their means [B], as `score`."""
        with self.watched(len(images)) as model:
            return score_images(model.clip, (images + 1) / 2, (references + 1) / 2).mean(1).cpu()

    @contextmanager
    def watched(self, images: int) -> Iterator[ClipModel]:
        """The model, on the device, while it looks at this many images; with a bar and cancel."""
        model = self.ready()
        with comfy.Watched(model.clip.image, images):
            yield model


def load_clip(name: str, words: str | None, activation: Activation) -> ClipHandle:
    """A CLIP from the model folders; `words` names the file of its text tower, where that is another one."""
    files = [comfy.model_path(comfy.CLIP_FOLDER, one) if one else None for one in (name, words)]
    with torch.inference_mode(False):  # ComfyUI's inference mode would mark the weights for ever
        model = open_clip(files[0], files[1], activation)
    key = " ".join(comfy.model_fingerprint(comfy.CLIP_FOLDER, one) for one in (name, words) if one)
    return ClipHandle(f"{key} {activation}", model, comfy.patcher_of(model.clip))


def make_ready(vqgan: VQGANHandle, clips: Sequence[ClipHandle], size: tuple[int, int]) -> tuple[VQGAN, list[ClipModel]]:
    """All models on the device, with room for the steps of a picture of size (height, width) pixels."""
    models = [clip.model for clip in clips]
    comfy.make_room([vqgan.patcher, *(clip.patcher for clip in clips)], guidance_memory(vqgan.module, models, *size))
    return vqgan.module, models


def paint(
    vqgan: VQGANHandle,
    clips: Sequence[ClipHandle],
    prompts: Sequence[Prompt],
    begin: Callable[[VQGAN], GuidanceState],
    size: tuple[int, int],
    settings: GuidanceSettings,
    preview_every: int,
    free: Tensor | None = None,
) -> Canvas:
    """The canvas of a run; where the same run was cancelled before, from there on. What it takes is told first.

    Args:
        begin: makes its beginning, with the VQGAN on the device.
        size: height and width in pixels.
        free: [h, w] bool, the cells that may change.
    """
    module, models = make_ready(vqgan, clips, size)
    with comfy.Cancellable():
        start = begin(module)
        names = [vqgan.fingerprint, *(clip.name for clip in clips)]
        key = fingerprint(*names, *prompts, start.z, start.generator, settings, free)
        state = _cancelled.pop(key, start)
        left = settings.steps - state.step
        comfy.say(f"{left} steps, about {left * estimate_step(module, models, state, settings):.0f} s")
        bar = comfy.Progress()
        try:
            for event in guide_steps(module, models, prompts, state, settings, free):
                state = event.state
                due = preview_every and (event.step % preview_every == 0 or event.step == event.steps)
                bar.step(event.step, event.steps, (lambda image=event.image: _picture(image)) if due else None)
        except BaseException:  # a cancel, or an error: the same run goes on from here
            _cancelled[key] = state
            while len(_cancelled) > MOST_KEPT:
                _cancelled.popitem(last=False)
            raise
        if left:
            comfy.say(f"distance to the prompts: {', '.join(f'{loss:.3f}' for loss in event.losses)}")
        return painted_canvas(module, state, settings)


def film(frames: Iterator[Frame], count: int, steps: int) -> Tensor:
    """The frames of a film, [n, 3, H, W] in -1..1, under one bar.

    Args:
        count: of frames.
        steps: of all frames together.
    """
    comfy.say(f"{count} frames")  # before previews, which cover later texts
    bar, finished = comfy.Progress(), []
    with comfy.Cancellable():
        for done, frame in enumerate(frames, 1):
            bar.step(done, steps, lambda image=frame.event.image: _picture(image))
            if frame.image is not None:
                finished.append(frame.image.cpu())
                comfy.say(f"frame {len(finished)} of {count}")
    return torch.cat(finished)


def _picture(image: Tensor) -> Image.Image:
    return to_pil(image * 2 - 1)[0]
