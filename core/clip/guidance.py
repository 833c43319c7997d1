"""Guided synthesis: an image of codes that comes nearer to its prompts with every step.

    z --nearest codes, straight through--> decoder --> image --views--> CLIP --> spherical distances to the prompts
    ^                                                                                        |
    +------------------- Adam, held within the codebook's range <------ gradient ------------+

VQGAN and CLIP stay as they are; only z, a latent for each cell, is learned (Crowson et al. 2022, arXiv:2204.08583).
Because z is quantized at every step, every step is a canvas. The gradient is worked out in two parts: that of the
views with respect to the image, a few views at a time, then that of the image with respect to z. So memory does
not grow with the number of views.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..autoencoders.base import FirstStage
from ..autoencoders.nearest import as_rows, nearest_code
from .cutouts import CutoutSettings, draw_views
from .model import ClipModel
from .objective import Target, add_gradient, encode_prompts
from .prompts import Prompt

MAX_STEPS = 100_000


@dataclass(frozen=True, kw_only=True)
class GuidanceSettings:
    """How an image is guided. ValueError for values out of range.

    learning_rate: Adam's, in standard deviations of the codebook, so that one value serves every VQGAN.
    average: decay of the average of z that is shown and returned; 0 shows z itself.
    init_weight: pull of z towards where it began, (weight / 2) * mean squared difference.
    pull: pull towards the mean code that fades to zero at half of the steps: large shapes first, texture later.
    normalize: divide the losses of prompts by the sum of their weights' sizes; without, they add up.
    """

    steps: int = 150
    learning_rate: float = 0.1
    average: float = 0.95
    init_weight: float = 0.0
    pull: float = 0.0
    normalize: bool = True
    cutouts: CutoutSettings = field(default_factory=CutoutSettings)

    def __post_init__(self):
        if not 1 <= self.steps <= MAX_STEPS:
            raise ValueError(f"steps is {self.steps}; choose 1 to {MAX_STEPS}")
        if not 0 < self.learning_rate <= 10:
            raise ValueError(f"the learning rate is {self.learning_rate}; choose above 0, to 10")
        if not 0 <= self.average < 1:
            raise ValueError(f"the average's decay is {self.average}; choose 0 (off) to below 1")
        if self.init_weight < 0 or self.pull < 0:
            raise ValueError(f"init_weight {self.init_weight} and pull {self.pull} must be 0 or above")


@dataclass(eq=False)
class GuidanceState:
    """Everything that going on needs; the same steps from the same state give the same bits."""

    z: Tensor  # [1, D, h, w]
    start: Tensor  # z at the beginning
    average: Tensor  # not yet corrected for its start at zero
    first_moment: Tensor
    second_moment: Tensor
    generator: Tensor  # state of the CPU generator
    step: int = 0

    @classmethod
    def begin(cls, vqgan: FirstStage, indices: Tensor, seed: int) -> GuidanceState:
        """From a canvas' indices [1, h, w] int64, all of them known."""
        z = vqgan.codebook.lookup(indices.to(vqgan.device)).float()
        zeros = torch.zeros_like(z)
        generator = torch.Generator().manual_seed(seed)
        return cls(z, z.clone(), zeros, zeros.clone(), zeros.clone(), generator.get_state())

    def clone(self) -> GuidanceState:
        """The same, sharing no memory."""
        return replace(self, **{n: v.clone() for n, v in vars(self).items() if isinstance(v, Tensor)})


class GuidanceEvent(NamedTuple):
    """What a step made."""

    step: int  # of `steps`, from 1
    steps: int
    image: Tensor  # [1, 3, H, W] in 0..1: what was judged in this step
    losses: tuple[float, ...]  # one for each prompt, unweighted, of the first CLIP
    loss: float  # all that is minimized by the prompts
    state: GuidanceState  # goes on from after this step


def guide_steps(
    vqgan: FirstStage,
    models: Sequence[ClipModel],
    prompts: Sequence[Prompt],
    state: GuidanceState,
    settings: GuidanceSettings,
    free: Tensor | None = None,
) -> Iterator[GuidanceEvent]:
    """Take the steps that are left, one event after each.

    Args:
        models: one CLIP or several, whose losses are added.
        state: from `GuidanceState.begin`, or an event's, to go on from there.
        free: [h, w] bool, cells that may change; None is all of them.
    Raises:
        ValueError: no prompts, or nothing free.
        torch.OutOfMemoryError: a step does not fit into memory; says what would.
    """
    if not prompts or not models:
        raise ValueError("there is nothing to be guided by; give at least one prompt and one CLIP")
    if free is not None and (free.shape != state.z.shape[2:] or not free.any()):
        raise ValueError(
            f"the free cells are {tuple(free.shape)}, the canvas {tuple(state.z.shape[2:])}; give at least one"
        )
    # what was made in inference mode has to be cloned outside of it
    with _learning(), _advice_if_out_of_memory(vqgan, state):
        state = state.clone()
        run = _Run.prepare(vqgan, models, prompts, state, settings, free)
    while state.step < settings.steps:
        # left before the event goes out: modes are the whole thread's
        with _learning(), _advice_if_out_of_memory(vqgan, state):
            event = _step(run, state)
        yield event


@contextmanager
def _learning() -> Iterator[None]:
    """Gradients on, whatever the caller has switched off."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


@contextmanager
def _advice_if_out_of_memory(vqgan: FirstStage, state: GuidanceState) -> Iterator[None]:
    """Say what to change where an allocation fails, on a GPU or not; the host still hears what kind of error it is."""
    try:
        yield
    except RuntimeError as error:  # without a GPU there is only the text
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        height, width = (side * vqgan.config.stride for side in state.z.shape[2:])
        raise torch.OutOfMemoryError(
            f"a step for {width}x{height} pixels does not fit into memory; choose a smaller picture or one CLIP, since "
            "fewer views would not help"
        ) from error


class _Run(NamedTuple):
    """What stays the same from step to step."""

    vqgan: FirstStage
    models: Sequence[ClipModel]
    targets: list[list[Target]]  # of each model
    settings: GuidanceSettings
    codes: Tensor  # [K, D]
    kept: Tensor | None  # [h, w] bool

    @classmethod
    def prepare(cls, vqgan, models, prompts, state, settings, free) -> _Run:
        size = tuple(side * vqgan.config.stride for side in state.z.shape[2:])
        targets = [encode_prompts(model, prompts, settings.cutouts, size) for model in models]
        kept = None if free is None else ~free.to(state.z.device)
        return cls(vqgan, models, targets, settings, vqgan.codebook.codes.detach().clone(), kept)


def _step(run: _Run, state: GuidanceState) -> GuidanceEvent:
    """One step: `state` is moved on."""
    settings, codes = run.settings, run.codes
    generator = torch.Generator()
    generator.set_state(state.generator)
    z = state.z.detach().requires_grad_()
    image = decode_with_gradient(run.vqgan, straight_through(z, codes))
    leaf = image.detach().requires_grad_()
    losses, loss = [], 0.0
    for model, targets in zip(run.models, run.targets, strict=True):
        clip = model.clip
        views = draw_views(settings.cutouts, leaf.shape[2], leaf.shape[3], clip.config.image_size, generator)
        each, total = add_gradient(clip, leaf, views, targets, settings.normalize)
        losses, loss = losses or each, loss + total
    (gradient,) = torch.autograd.grad(image, z, leaf.grad)
    gradient = gradient + _pulls(z.detach(), state, codes.mean(0).view(1, -1, 1, 1), settings)
    if run.kept is not None:
        gradient = gradient.masked_fill(run.kept, 0)
    _adam(state, gradient, settings.learning_rate * float(codes.std()))
    low, high = (bound.view(1, -1, 1, 1) for bound in (codes.amin(0), codes.amax(0)))
    state.z = torch.minimum(torch.maximum(state.z, low), high)
    if run.kept is not None:  # Adam moves on by its moments
        state.z = torch.where(run.kept, state.start, state.z)
    state.average = settings.average * state.average + (1 - settings.average) * state.z
    state.step, state.generator = state.step + 1, generator.get_state()
    return GuidanceEvent(state.step, settings.steps, leaf.detach(), tuple(losses), loss, state.clone())


def straight_through(z: Tensor, codes: Tensor) -> Tensor:
    """The nearest codes, with the gradient of z: z [B, D, h, w], codes [K, D]."""
    nearest = F.embedding(nearest_indices(z, codes), codes).movedim(-1, 1)
    return z + (nearest - z).detach()


def nearest_indices(z: Tensor, codes: Tensor) -> Tensor:
    """Index of the nearest code of each cell: [B, D, h, w] -> [B, h, w] int64. A Gumbel codebook's too: here z lies
    among its codes, not among its encoder's outputs."""
    with torch.no_grad():
        return nearest_code(as_rows(z), codes).view(len(z), *z.shape[2:])


class _ClampWithGradient(torch.autograd.Function):
    """Clamp to 0..1 whose gradient may bring values back from outside, but not further out."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(0, 1)

    @staticmethod
    def backward(ctx, *gradients):
        (gradient,) = gradients
        (x,) = ctx.saved_tensors
        return gradient * (gradient * (x - x.clamp(0, 1)) >= 0)


def decode_with_gradient(vqgan: FirstStage, codes: Tensor) -> Tensor:
    """Codes [1, D, h, w] -> image [1, 3, H, W] in 0..1."""
    return _ClampWithGradient.apply((vqgan.decode(codes) + 1) / 2)


def averaged(state: GuidanceState, decay: float) -> Tensor:
    """The average of z over the steps taken, corrected for its start at zero; z itself before the first."""
    return state.average / (1 - decay**state.step) if state.step else state.z


def _pulls(z: Tensor, state: GuidanceState, center: Tensor, settings: GuidanceSettings) -> Tensor:
    """Gradient of the pulls towards the start and, fading, towards the mean code."""
    fading = settings.pull * max(0.0, 1 - 2 * state.step / settings.steps)
    return (settings.init_weight * (z - state.start) + fading * (z - center)) / z.numel()


def _adam(state: GuidanceState, gradient: Tensor, rate: float) -> None:
    """One step of Adam (Kingma and Ba 2015, arXiv:1412.6980, algorithm 1) with its usual constants."""
    beta1, beta2, t = 0.9, 0.999, state.step + 1
    state.first_moment = state.first_moment.lerp(gradient, 1 - beta1)
    state.second_moment = beta2 * state.second_moment + (1 - beta2) * gradient.square()
    size = (state.second_moment / (1 - beta2**t)).sqrt() + 1e-8
    state.z = state.z - rate / (1 - beta1**t) * state.first_moment / size
