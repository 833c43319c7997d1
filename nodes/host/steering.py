"""Core's steering and gate under ComfyUI: models made ready, bar, pictures on the way and cancel."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ...core.canvas.canvas import Canvas
from ...core.canvas.codec import decode_canvas
from ...core.clip.gate import Term, Tried, gate
from ...core.clip.scoring import score_texts
from ...core.clip.steering import steer_steps
from ...core.prepared import PreparedCondition, condition_agreement
from ...core.sampling.likelihood import mean_log_probability
from ...core.sampling.loop import sample
from ...core.sampling.state import SamplingState
from ...core.sampling.windows import Sliding
from . import comfy
from .handles import BundleHandle
from .painting import ClipHandle
from .sampling import Sampled, SamplingRequest, WindowChoice, finish, preview, run

UNWRAPPED = WindowChoice(Sliding(), "none")


def steer(request: SamplingRequest, clip: ClipHandle, text: str, preview_every: int) -> tuple[Canvas, Tensor]:
    """The images of a steered run, best first, and their cosines with the text.

    The backdrop is one plain image of the next seed.
    """
    judge = clip.ready()
    request = replace(request, window=UNWRAPPED)
    given, start, settings = request.begin()
    alone, first, _ = replace(request, pictures=1).begin()
    bundle = request.model.ready_to_sample(start, settings.guidance_scale != 1)

    def score(made: Canvas) -> Tensor:
        return score_texts(judge, (decode_canvas(bundle.vqgan, made) + 1) / 2, [text]).mean(1)

    with comfy.Cancellable():
        backdrop = sample(bundle.prior, alone, first, request.seed + request.pictures, settings).canvas
        comfy.say(f"Painting {request.pictures} pictures side by side")  # before previews, which cover later texts
        state, bar = SamplingState.start(start, request.seed), comfy.Progress()
        for event in steer_steps(bundle.prior, given, state, settings, score, backdrop):
            due = preview_every and event.done % preview_every == 0
            now = start.with_cells(state.indices, state.known)
            bar.step(event.done, event.total, (lambda now=now: preview(bundle.vqgan, now)) if due else None)
            if event.copied:
                mean = event.scores.mean()
                comfy.say(f"{event.copied} of {request.pictures} pictures replaced, mean cosine {mean:.3f}")
    order = event.scores.argsort(descending=True, stable=True)
    return start.with_cells(state.indices.cpu(), state.known.cpu()).pick(order), event.scores[order]


def try_until(
    request: SamplingRequest,
    clip: ClipHandle,
    text: str,
    reference: Tensor | None,
    likelihood: float,
    agreement: float,
    threshold: float,
    tries: int,
    together: int,
    preview_every: int,
) -> tuple[Tried, list[Term], Tensor, Canvas]:
    """What was tried, its terms, and the images and canvases of all tries.

    Args:
        request: of the first try.
        reference: [n, 3, H, W] in -1..1.
        likelihood, agreement: weights of what the model finds likely, and of agreement with the condition.
    Raises:
        ValueError: nothing to judge by; agreement is asked for, but nothing guides, or nothing that can be compared.
    """
    runs, images = [], []
    model, condition = request.model, request.condition
    if agreement and condition is None:
        raise ValueError("agreement has a weight, but no condition is connected; connect one, or set it to 0")
    terms = _terms(clip, text, reference, {"likelihood": likelihood, "agreement": agreement})
    scorers = {
        "words": lambda made, _: clip.score(made, text),
        "reference": lambda made, _: clip.compare(made, reference),
        "likelihood": _likelihood,
        "agreement": lambda made, _: _agreement(model, condition, made),
    }

    def make(first: int) -> list[Tensor]:
        batch = replace(request, seed=request.seed + first, pictures=min(together, tries - first))
        sampled = run(batch, preview_every)
        runs.append(sampled)
        images.append(request.model.vqgan.decode(sampled.canvas))
        return [scorers[term.name](images[-1], sampled) for term in terms]

    for tried in gate(make, terms, threshold, tries, together):
        comfy.say(f"{len(tried.totals)} tried, best {tried.totals.max():.0f} of 100")
    finish(*runs)
    return tried, terms, torch.cat(images), runs[0].canvas.join([other.canvas for other in runs[1:]])


def _terms(clip: ClipHandle, text: str, reference: Tensor | None, weights: dict[str, float]) -> list[Term]:
    """What an image is judged by; ValueError if by nothing."""
    terms = [Term(name="words", quantiles=clip.model.right_pairs)] if text.strip() else []
    terms += [] if reference is None else [Term(name="reference")]
    terms += [Term(name=name, weight=weight) for name, weight in weights.items() if weight]
    if not terms or terms[0].name == "likelihood":
        raise ValueError("there is nothing to judge by; write words, or connect a reference picture")
    return terms


def _agreement(model: BundleHandle, condition: PreparedCondition, images: Tensor) -> Tensor:
    """`condition_agreement` with the condition's VQGAN on the device."""
    with comfy.Cancellable():
        return condition_agreement(model.ready_for_condition(*images.shape[2:]), condition, images)


def _likelihood(_: Tensor, sampled: Sampled) -> Tensor:
    """The geometric mean of the probabilities of an image's codes, 0 to 1."""
    return mean_log_probability(sampled.state, sampled.start.known).exp()
