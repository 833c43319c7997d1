"""Whole runs of guided synthesis: how one begins, what it will take, how far it came, and film.

painting = begin_painting(vqgan, 256, 256, seed=0)              # soft noise; or from_image(...)
for event in guide_steps(vqgan, [model], parse_prompts("a cat"), painting, GuidanceSettings()): ...
canvas = painted_canvas(vqgan, event.state, settings)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..autoencoders.base import FirstStage
from ..bundle import Bundle
from ..canvas.canvas import Canvas
from ..canvas.codec import decode_canvas, encode_canvas
from ..conditions.base import repeat
from ..conditions.sketch import Sketch
from ..sampling.loop import sample_steps
from ..sampling.settings import SamplingSettings
from ..sampling.state import Progress, SamplingState
from .guidance import GuidanceEvent, GuidanceSettings, GuidanceState, averaged, guide_steps, nearest_indices
from .model import ClipModel
from .objective import view_memory, views_at_once
from .prompts import Prompt
from .scoring import score_texts

BACKWARD = 2  # a backward pass takes twice the forward pass
MAX_FRAMES = 10_000
ASKED_GUIDANCE = 3.0  # of what a prior is asked to show: without it few of its pictures show it


def soft_noise(height: int, width: int, seed: int) -> Tensor:
    """An image of nothing to begin with, large soft spots and small ones: [1, 3, height, width] in -1..1."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.zeros(1, 3, height, width)
    for cells, strength in ((3, 0.5), (8, 0.35), (20, 0.2)):
        spots = torch.randn(1, 3, cells, cells, generator=generator) * strength
        image = image + F.interpolate(spots, (height, width), mode="bicubic")
    return image.clamp(-1, 1)


def begin_painting(vqgan: FirstStage, height: int, width: int, seed: int) -> GuidanceState:
    """A run that begins with soft noise of height x width pixels, made up to whole cells."""
    return from_image(vqgan, soft_noise(height, width, seed), seed)


def from_image(vqgan: FirstStage, image: Tensor, seed: int) -> GuidanceState:
    """A run that begins with the codes of an image, [1, 3, H, W] in -1..1 of any size."""
    return from_canvas(vqgan, encode_canvas(vqgan, image), seed)


def from_canvas(vqgan: FirstStage, canvas: Canvas, seed: int) -> GuidanceState:
    """A run that begins with a canvas of one image; its unknown cells are soft noise.

    Raises:
        ValueError: several images.
    """
    if len(canvas.indices) != 1:
        raise ValueError(f"the canvas holds {len(canvas.indices)} pictures; guidance makes one at a time, pick one")
    indices = canvas.indices
    if not canvas.known.all():
        height, width = (side * vqgan.config.stride for side in canvas.size)
        noise = encode_canvas(vqgan, soft_noise(height, width, seed)).indices.to(indices.device)
        indices = torch.where(canvas.known, indices, noise)
    return GuidanceState.begin(vqgan, indices, seed)


def best_of_free(
    bundle: Bundle,
    model: ClipModel,
    prompts: Sequence[Prompt],
    size: tuple[int, int],
    count: int,
    seed: int,
    tell: Callable[[Progress], None],
    sketch: Sketch | None = None,
) -> Canvas:
    """The one of `count` images that a prior paints that fits the words best, to begin with.

    Args:
        prompts: those of words that attract count.
        size: height and width in pixels, made up to whole cells.
        tell: called after each cell.
        sketch: what they are asked to show, of a prior of sketches; None for nothing.
    Raises:
        ValueError: a prior that has not learned to paint freely and is not guided, or no words.
    """
    words = [prompt.text for prompt in prompts if prompt.text and prompt.weight > 0]
    empty = Canvas.empty(count, *(-(-side // bundle.vqgan.config.stride) for side in size))
    state = SamplingState.start(empty, seed)
    condition = repeat(bundle.condition(sketch, empty.size), count)
    settings = SamplingSettings(guidance_scale=ASKED_GUIDANCE if sketch else 1.0)
    for event in sample_steps(bundle.prior, condition, state, settings):
        tell(event)
    state.move_to(torch.device("cpu"))
    scores = score_texts(model, (decode_canvas(bundle.vqgan, state.canvas) + 1) / 2, words).mean(1)
    return state.canvas.pick(scores.argmax().view(1).cpu())


def painted_canvas(vqgan: FirstStage, state: GuidanceState, settings: GuidanceSettings) -> Canvas:
    """What a run has made so far: the codes nearest to the average of its latents."""
    return Canvas.filled(nearest_indices(averaged(state, settings.average), vqgan.codebook.codes).cpu())


@torch.no_grad()
def estimate_step(
    vqgan: FirstStage, models: Sequence[ClipModel], state: GuidanceState, settings: GuidanceSettings
) -> float:
    """Seconds that a step takes, from a forward pass of the decoder and of one view for each CLIP."""
    seconds = _seconds(lambda: vqgan.decode(state.z)) + sum(
        settings.cutouts.count * _seconds(lambda clip=model.clip: clip.encode_image(_blank(clip))) for model in models
    )
    return (1 + BACKWARD) * seconds


def guidance_memory(vqgan: FirstStage, models: Sequence[ClipModel], height: int, width: int) -> int:
    """Bytes that a step needs beside the weights: what the decoder keeps for its backward pass, and one CLIP's views.

    Measured at 256 pixels: the released f16 decoder keeps about 60 values for each pixel and channel.
    """
    decoder = 60 * 4 * height * width * vqgan.config.pixel_channels
    return decoder + max(views_at_once(model.clip) * view_memory(model.clip) for model in models)


def _seconds(work: Callable[[], Tensor]) -> float:
    work()
    start = time.perf_counter()
    float(work().flatten()[0])  # waits for the device
    return time.perf_counter() - start


def _blank(clip) -> Tensor:
    size = clip.config.image_size
    return torch.full((1, 3, size, size), 0.5, device=clip.device)


@dataclass(frozen=True, kw_only=True)
class Camera:
    """How the image moves from one frame of a film to the next. ValueError for values out of range."""

    zoom: float = 1.02  # above 1 goes in
    right: float = 0.0  # what is seen moves by this share of the width
    down: float = 0.0
    turn: float = 0.0  # degrees, clockwise

    def __post_init__(self):
        if not 0.5 <= self.zoom <= 2:
            raise ValueError(f"the zoom is {self.zoom} a frame; choose 0.5 to 2, such as 1.02")
        if abs(self.right) > 0.5 or abs(self.down) > 0.5 or abs(self.turn) > 180:
            raise ValueError("the camera moves too far in a frame; choose at most half a picture and 180 degrees")


def move_camera(image: Tensor, camera: Camera) -> Tensor:
    """The next view of an image, mirrored where it goes beyond: [1, 3, H, W] -> same."""
    height, width = image.shape[2:]
    angle = math.radians(camera.turn)
    cos, sin = math.cos(angle) / camera.zoom, math.sin(angle) / camera.zoom
    ratio = height / width
    theta = torch.tensor([[cos, sin * ratio, 2 * camera.right], [-sin / ratio, cos, 2 * camera.down]])
    grid = F.affine_grid(theta[None].to(image), list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, mode="bicubic", padding_mode="reflection", align_corners=False).clamp(-1, 1)


class Frame(NamedTuple):
    """A finished frame of a film, or where a step led on the way to it."""

    number: int  # from 0
    event: GuidanceEvent
    image: Tensor | None  # [1, 3, H, W] in -1..1 once the frame is finished


def story(
    vqgan: FirstStage,
    models: Sequence[ClipModel],
    scenes: Sequence[Sequence[Prompt]],
    start: GuidanceState,
    settings: GuidanceSettings,
    camera: Camera,
    frames: int,
    steps: int,
) -> Iterator[Frame]:
    """A film: scene after scene, the camera moving; each frame goes on from the last one.

    Args:
        scenes: the prompts of each scene; frames are shared out evenly.
        settings: of the first frame, which begins from nothing.
        steps: of every later frame.
    Raises:
        ValueError: no scenes, or another number of frames than there can be.
    """
    if not scenes or not len(scenes) <= frames <= MAX_FRAMES:
        raise ValueError(
            f"{frames} frames for {len(scenes)} scenes; choose one for each at least, {MAX_FRAMES} at most"
        )
    state, own = start, settings
    for number in range(frames):
        prompts = scenes[number * len(scenes) // frames]
        image = yield from _frame(vqgan, models, prompts, state, own, number)
        own = replace(settings, steps=steps)
        state = from_image(vqgan, move_camera(image, camera), number + 1)


def restyle(
    vqgan: FirstStage,
    models: Sequence[ClipModel],
    prompts: Sequence[Prompt],
    images: Tensor,
    settings: GuidanceSettings,
    seed: int,
    carry: float = 0.0,
) -> Iterator[Frame]:
    """Images of a film guided one after the other, each from its own codes.

    Args:
        images: [n, 3, H, W] in -1..1.
        settings: an `init_weight` of 0.2 (wild) to 4 (gentle) holds each to its original.
        carry: share of the frame before that is mixed into the start, so that the film flickers less.
    """
    before = None
    for number, image in enumerate(images.split(1)):
        begun = image if before is None else torch.lerp(image, before.to(image), carry)
        before = yield from _frame(vqgan, models, prompts, from_image(vqgan, begun, seed), settings, number)


def _frame(vqgan, models, prompts, state, settings, number) -> Iterator[Frame]:
    """The steps of one frame; returns its image."""
    event = None
    for event in guide_steps(vqgan, models, prompts, state, settings):
        if event.step < event.steps:
            yield Frame(number, event, None)
    assert event is not None  # there is at least one step
    with torch.no_grad():
        canvas = painted_canvas(vqgan, event.state, settings)
        image = vqgan.decode_indices(canvas.indices.to(state.z.device)).clamp(-1, 1)
    yield Frame(number, event, image)
    return image
