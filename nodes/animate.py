"""Nodes that make pictures in a row, for ComfyUI's video nodes."""

from torch import Tensor

from ..core.canvas.canvas import Canvas
from ..core.canvas.frames import MAX_FRAMES, even_steps, roll_frames, travel
from ..core.prepared import PreparedCondition
from ..core.sampling.settings import SamplingSettings, swept_settings
from . import sockets
from .host import comfy
from .host.comfy import io
from .host.handles import BundleHandle, VQGANHandle
from .host.images import from_image, to_image
from .host.sampling import SamplingRequest, WindowChoice, finish, sweep
from .inputs import DEFAULT_SETTINGS, canvas_inputs, model_input, preview_input, seed_input, vqgan_input

CATEGORY = "Tessera/animation"


def frames_input(default: int = 24) -> io.Input:
    """How many pictures."""
    return io.Int.Input("frames", default=default, min=2, max=MAX_FRAMES, tooltip="How many pictures in the row.")


def back_input() -> io.Input:
    """Whether the row ends where it began."""
    return io.Boolean.Input(
        "there_and_back", default=True, tooltip="Goes back to the beginning, so that the row can be repeated."
    )


class AnimateTemperature(io.ComfyNode):
    """One seed, its temperature rising."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraAnimateTemperature",
            display_name="Animate Temperature",
            category=CATEGORY,
            description="Paints one seed again and again while the temperature rises. Each cell keeps its random "
            "number, so neighbours in the row are alike and few cells change from one to the next.",
            inputs=[
                model_input(),
                seed_input(),
                frames_input(16),
                io.Float.Input(
                    "first", default=0.5, min=0.0, max=3.0, step=0.01, tooltip="Temperature at the beginning."
                ),
                io.Float.Input("last", default=1.1, min=0.0, max=3.0, step=0.01, tooltip="Temperature of the last."),
                back_input(),
                preview_input(),
                *canvas_inputs(),
            ],
            outputs=[
                io.Image.Output(display_name="frames", tooltip="The pictures in a row, for Create Video."),
                sockets.Canvas.Output(display_name="canvas", tooltip="Their canvases."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        model: BundleHandle,
        seed: int,
        frames: int,
        first: float,
        last: float,
        there_and_back: bool,
        preview_every: int,
        condition: PreparedCondition | None = None,
        canvas: Canvas | None = None,
        settings: SamplingSettings | None = None,
        sliding: WindowChoice | None = None,
    ) -> io.NodeOutput:
        each = swept_settings(
            settings or DEFAULT_SETTINGS, "temperature", even_steps(first, last, frames, there_and_back)
        )
        request = SamplingRequest(model=model, condition=condition, canvas=canvas, window=sliding, seed=seed)
        runs = sweep(request, each, preview_every)
        every = runs[0].canvas.join([other.canvas for other in runs[1:]])
        shown = to_image(model.vqgan.decode(every))
        finish(*runs)
        return io.NodeOutput(shown, every, ui=comfy.finished_pictures(shown, cls))


class Travel(io.ComfyNode):
    """From one picture to another."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraTravel",
            display_name="Travel",
            category=CATEGORY,
            description="Goes from one canvas to another, such as two seeds of one condition: each picture of the row "
            "has the codes nearest to a mix of both.",
            inputs=[
                vqgan_input(),
                sockets.Canvas.Input("a", tooltip="Where it begins."),
                sockets.Canvas.Input("b", tooltip="Where it goes; of the same size."),
                frames_input(),
                back_input(),
            ],
            outputs=[
                io.Image.Output(display_name="frames", tooltip="The pictures in a row, for Create Video."),
                sockets.Canvas.Output(display_name="canvas", tooltip="Their canvases."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, vqgan: VQGANHandle, a: Canvas, b: Canvas, frames: int, there_and_back: bool) -> io.NodeOutput:
        with comfy.Cancellable():
            row = travel(vqgan.module, a, b, frames, there_and_back)
        shown = to_image(vqgan.decode(row))
        return io.NodeOutput(shown, row, ui=comfy.saved_pictures(shown, cls))


class RollFrames(io.ComfyNode):
    """A seamless picture on the move."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraRollFrames",
            display_name="Roll Frames",
            category=CATEGORY,
            description="Moves a picture that tiles around its own border, in a row that ends where it began. For "
            "pictures painted with Sliding Window set to wrap.",
            inputs=[
                io.Image.Input("image", tooltip="A picture whose ends fit together."),
                frames_input(),
                io.Int.Input("right", default=1, min=-16, max=16, tooltip="How often around to the right."),
                io.Int.Input("down", default=0, min=-16, max=16, tooltip="How often around downwards."),
            ],
            outputs=[io.Image.Output(display_name="frames", tooltip="The pictures in a row, for Create Video.")],
        )

    @classmethod
    def execute(cls, image: Tensor, frames: int, right: int, down: int) -> io.NodeOutput:
        return io.NodeOutput(to_image(roll_frames(from_image(image[:1]), frames, right, down)))
