"""A node that lets words choose among what a prior paints, row by row."""

import torch

from ...core.canvas.canvas import Canvas
from ...core.images.io import to_pil, to_tensor
from ...core.images.sheet import labeled_tiles
from ...core.prepared import PreparedCondition
from ...core.sampling.settings import SamplingSettings
from .. import sockets
from ..host import comfy
from ..host.comfy import io
from ..host.handles import BundleHandle
from ..host.images import to_image
from ..host.painting import ClipHandle
from ..host.sampling import SamplingRequest
from ..host.steering import steer
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
