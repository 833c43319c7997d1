"""Core's steering under ComfyUI: models made ready, bar, pictures on the way and cancel."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ...core.canvas.canvas import Canvas
from ...core.canvas.codec import decode_canvas
from ...core.clip.scoring import score_texts
from ...core.clip.steering import steer_steps
from ...core.sampling.checks import guided_by
from ...core.sampling.loop import sample
from ...core.sampling.state import SamplingState
from ...core.sampling.windows import Sliding
from . import comfy
from .painting import ClipHandle
from .sampling import SamplingRequest, WindowChoice, preview

UNWRAPPED = WindowChoice(Sliding(), "none")


def steer(request: SamplingRequest, clip: ClipHandle, text: str, preview_every: int) -> tuple[Canvas, Tensor]:
    """The images of a steered run, best first, and their cosines with the text.

    The backdrop is one plain image of the next seed.
    """
    judge = clip.ready()
    request = replace(request, window=UNWRAPPED)
    given, start, settings = request.begin()
    alone, first, _ = replace(request, pictures=1).begin()
    bundle = request.model.ready_to_sample(start, len(guided_by(given, settings)[0]))

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
