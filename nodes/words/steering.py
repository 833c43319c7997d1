"""Nodes that let words choose among what a prior paints: steering row by row, and the gate."""

import torch
from torch import Tensor

from ...core.canvas.canvas import Canvas
from ...core.clip.gate import Term, Tried
from ...core.images.io import to_pil, to_tensor
from ...core.images.sheet import labeled_tiles
from ...core.prepared import PreparedCondition
from ...core.sampling.settings import SamplingSettings
from .. import sockets
from ..host import comfy
from ..host.comfy import io
from ..host.handles import BundleHandle
from ..host.images import from_image, to_image
from ..host.painting import ClipHandle
from ..host.sampling import SamplingRequest, WindowChoice
from ..host.steering import steer, try_until
from ..inputs import DEFAULT_SETTINGS, canvas_inputs, clip_input, model_input, preview_input, seed_input
from .clip import CATEGORY


class SteerByWords(io.ComfyNode):
    """Particles over rows."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraSteerByWords",
            display_name="Steer by Words",
            category=CATEGORY,
            description="Paints several pictures side by side with the model, and after each row lets those that fit "
            "the words take the place of those that don't. The pictures stay as clean as the model paints them.",
            inputs=[
                model_input(),
                clip_input(),
                seed_input(),
                io.String.Input("text", default="a red flower", multiline=True, tooltip="What they should show."),
                io.Int.Input("particles", default=8, min=2, max=64, tooltip="How many pictures, side by side."),
                preview_input(),
                *(one for one in canvas_inputs() if one.id != "sliding"),
            ],
            outputs=[
                io.Image.Output(display_name="picture", tooltip="The one that fits the words best."),
                sockets.Canvas.Output(display_name="canvas", tooltip="Its canvas."),
                io.Image.Output(display_name="strip", tooltip="All of them, best first, with their cosines."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        model: BundleHandle,
        clip: ClipHandle,
        seed: int,
        text: str,
        particles: int,
        preview_every: int,
        condition: PreparedCondition | None = None,
        canvas: Canvas | None = None,
        settings: SamplingSettings | None = None,
    ) -> io.NodeOutput:
        request = SamplingRequest(
            model=model, condition=condition, canvas=canvas, settings=settings or DEFAULT_SETTINGS, seed=seed,
            pictures=particles,
        )  # fmt: skip
        painted, scores = steer(request, clip, text, preview_every)
        made = model.vqgan.decode(painted)
        strip = labeled_tiles([f"{score:.3f}" for score in scores.tolist()], to_pil(made))
        picture, best = to_image(made[:1]), painted.pick(torch.tensor([0]))
        return io.NodeOutput(picture, best, to_image(to_tensor(strip)), ui=comfy.finished_pictures(picture, cls))


class Gate(io.ComfyNode):
    """Again, until it resembles the request."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraGate",
            display_name="Try Until It Fits",
            category=CATEGORY,
            description="Paints with one seed after the other until a picture fits the words well enough, or the tries "
            "are used up; the best one comes out either way.",
            inputs=[
                model_input(),
                clip_input(),
                seed_input(),
                io.String.Input(
                    "text", default="a red flower", multiline=True,
                    tooltip="What it should show; with a reference picture it may be empty.",
                ),
                io.Float.Input(
                    "threshold", default=60.0, min=0.0, max=100.0, step=1.0,
                    tooltip="Good enough: better than so many of a hundred real drawings fit their own names, with "
                    "emoji-clip. With other CLIPs 100 times the cosine, of which 25 to 35 is good.",
                ),
                io.Int.Input("tries", default=16, min=1, max=1000, tooltip="At most so many pictures."),
                io.Int.Input("together", default=4, min=1, max=64, tooltip="How many are painted at a time."),
                io.Float.Input(
                    "likelihood", default=0.0, min=0.0, max=10.0, step=0.05,
                    tooltip="Weight of how likely the model itself finds the picture, beside 1 for the words.",
                ),
                preview_input(),
                *canvas_inputs(),
                io.Image.Input("reference", optional=True, tooltip="A picture that it should resemble, too."),
                io.Float.Input(
                    "agreement", default=0.0, min=0.0, max=10.0, step=0.05, optional=True,
                    tooltip="Weight of how well it agrees with the condition, edges or low resolution, beside 1 for "
                    "the words.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="picture", tooltip="The best one."),
                sockets.Canvas.Output(display_name="canvas", tooltip="Its canvas."),
                io.Image.Output(display_name="strip", tooltip="All that were tried, in order, with their scores."),
                io.String.Output(display_name="scores", tooltip="A line for each try: seed, scores, total."),
            ],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        model: BundleHandle,
        clip: ClipHandle,
        seed: int,
        text: str,
        threshold: float,
        tries: int,
        together: int,
        likelihood: float,
        preview_every: int,
        condition: PreparedCondition | None = None,
        canvas: Canvas | None = None,
        settings: SamplingSettings | None = None,
        sliding: WindowChoice | None = None,
        reference: Tensor | None = None,
        agreement: float | None = None,
    ) -> io.NodeOutput:
        request = SamplingRequest(
            model=model, condition=condition, canvas=canvas, settings=settings or DEFAULT_SETTINGS, window=sliding,
            seed=seed,
        )  # fmt: skip
        wanted = None if reference is None else from_image(reference)
        tried, terms, images, painted = try_until(
            request,
            clip,
            text,
            wanted,
            likelihood,
            agreement or 0.0,
            threshold,
            tries,
            min(together, tries),
            preview_every,
        )
        best = torch.tensor([tried.best])
        labels = [f"{total:.0f}" + (" *" if i == tried.best else "") for i, total in enumerate(tried.totals.tolist())]
        strip = to_image(to_tensor(labeled_tiles(labels, to_pil(images))))
        picture, lines = to_image(images[best]), report(tried, terms, seed)
        return io.NodeOutput(picture, painted.pick(best), strip, lines, ui=comfy.finished_pictures(picture, cls))


def report(tried: Tried, terms: list[Term], seed: int) -> str:
    """A line for each try, and whether one passed."""
    lines = [
        f"seed {seed + i}: " + ", ".join(f"{term.name} {p:.0f}" for term, p in zip(terms, row, strict=True))
        + f", total {total:.0f}"
        for i, (row, total) in enumerate(zip(tried.percents.tolist(), tried.totals.tolist(), strict=True))
    ]  # fmt: skip
    return "\n".join([*lines, "passed" if tried.passed else "none passed; this is the best"])
