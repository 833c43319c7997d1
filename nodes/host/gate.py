"""Core's gate under ComfyUI: what an image is judged by, models made ready, bar, pictures on the way and cancel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...core.autoencoders.discriminator_file import Realism, open_discriminator, score_realism
from ...core.canvas.canvas import Canvas
from ...core.clip.gate import Term, Tried, gate
from ...core.prepared import PreparedCondition, condition_agreement
from ...core.sampling.likelihood import mean_log_probability
from . import comfy
from .handles import BundleHandle
from .painting import ClipHandle
from .sampling import Sampled, SamplingRequest, finish, run

JUDGING = 2**28  # bytes for a few pictures

Scorer = Callable[[Tensor, Sampled], Tensor]  # images [B, 3, H, W] in -1..1 and the run that made them -> [B]


@dataclass(frozen=True, eq=False)
class DiscriminatorHandle:
    """A discriminator, ready to be put on the device."""

    realism: Realism
    patcher: comfy.ModelPatcher

    def score(self, images: Tensor) -> Tensor:
        """`score_realism` on the device, with a bar and cancel: [B] on the CPU."""
        comfy.make_room([self.patcher], JUDGING)
        with comfy.Watched(self.realism.discriminator, len(images)):
            return score_realism(self.realism.discriminator, images).cpu()


def load_discriminator(name: str) -> DiscriminatorHandle:
    """A discriminator from the folders of VQGANs."""
    with torch.inference_mode(False):  # ComfyUI's inference mode would mark the weights for ever
        realism = open_discriminator(comfy.model_path(comfy.VQGAN_FOLDER, name))
    return DiscriminatorHandle(realism, comfy.patcher_of(realism.discriminator))


@dataclass(frozen=True, kw_only=True, eq=False)
class Wishes:
    """What an image is judged by; words and a reference count 1 each, the others their weights.

    reference: [n, 3, H, W] in -1..1.
    """

    clip: ClipHandle
    text: str
    reference: Tensor | None
    discriminator: DiscriminatorHandle | None
    realism: float
    likelihood: float
    agreement: float

    def terms(self, model: BundleHandle, condition: PreparedCondition | None) -> list[tuple[Term, Scorer]]:
        """Each way to judge, with what scores by it.

        Raises:
            ValueError: nothing to judge by; agreement without a condition; a discriminator without a table.
        """
        if self.agreement and condition is None:
            raise ValueError("agreement has a weight, but no condition is connected; connect one, or set it to 0")
        found: list[tuple[Term, Scorer]] = []
        if self.text.strip():
            words = Term(name="words", quantiles=self.clip.model.right_pairs)
            found.append((words, lambda made, _: self.clip.score(made, self.text)))
        if (reference := self.reference) is not None:
            like = Term(name="reference", quantiles=self.clip.model.like_pairs)
            found.append((like, lambda made, _: self.clip.compare(made, reference)))
        if (judge := self.discriminator) is not None and self.realism:
            table = judge.realism.reconstructions
            realism = Term(name="realism", weight=self.realism, quantiles=table, bounded=False)
            found.append((realism, lambda made, _: judge.score(made)))
        if self.agreement and condition is not None:
            table = model.bundle.reached.get("agreement")
            agreement = Term(name="agreement", weight=self.agreement, quantiles=table)
            found.append((agreement, lambda made, _: _agreement(model, condition, made)))
        if not found:
            raise ValueError(
                "there is nothing to judge by; write words, or connect a reference picture or a discriminator"
            )
        if self.likelihood:
            table = model.bundle.reached.get("free_likelihood" if condition is None else "likelihood")
            found.append((Term(name="likelihood", weight=self.likelihood, quantiles=table), _likelihood))
        return found


def try_until(
    request: SamplingRequest, wishes: Wishes, threshold: float, tries: int, together: int, preview_every: int
) -> tuple[Tried, list[Term], Tensor, Canvas]:
    """What was tried, its terms, and the images and canvases of all tries. `request` is that of the first try.

    Raises:
        ValueError: as `Wishes.terms`; a condition that nothing can be compared with.
    """
    runs, images = [], []
    judges = wishes.terms(request.model, request.condition)
    terms = [term for term, _ in judges]

    def make(first: int) -> list[Tensor]:
        batch = replace(request, seed=request.seed + first, pictures=min(together, tries - first))
        sampled = run(batch, preview_every)
        runs.append(sampled)
        images.append(request.model.vqgan.decode(sampled.canvas))
        return [scorer(images[-1], sampled) for _, scorer in judges]

    for tried in gate(make, terms, threshold, tries, together):
        comfy.say(f"{len(tried.totals)} tried, best {tried.totals.max():.0f} of 100")
    finish(*runs)
    return tried, terms, torch.cat(images), runs[0].canvas.join([other.canvas for other in runs[1:]])


def report(tried: Tried, terms: list[Term], seed: int) -> str:
    """A line for each try, whether one passed, and which percents come from no table."""
    names = [term.name for term in terms]
    lines = [
        f"seed {seed + i}: " + ", ".join(f"{name} {p:.0f}" for name, p in zip(names, row, strict=True))
        + f", total {total:.0f}"
        for i, (row, total) in enumerate(zip(tried.percents.tolist(), tried.totals.tolist(), strict=True))
    ]  # fmt: skip
    lines.append("passed" if tried.passed else "none passed; this is the best")
    if plain := [term.name for term in terms if term.quantiles is None]:
        lines.append(f"what real pictures reach is not known for {', '.join(plain)}: 100 times the score counts")
    return "\n".join(lines)


def _agreement(model: BundleHandle, condition: PreparedCondition, images: Tensor) -> Tensor:
    """`condition_agreement` with the condition's VQGAN on the device."""
    with comfy.Cancellable():
        return condition_agreement(model.ready_for_condition(*images.shape[2:]), condition, images)


def _likelihood(_: Tensor, sampled: Sampled) -> Tensor:
    """The geometric mean of the probabilities of an image's codes, 0 to 1."""
    return mean_log_probability(sampled.state, sampled.start.known).exp()
