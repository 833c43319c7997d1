"""Nodes that paint films by words: a story, and frames in another style."""

from dataclasses import replace

from torch import Tensor

from ...core.canvas.canvas import Canvas
from ...core.clip.guidance import GuidanceSettings
from ...core.clip.painting import Camera, begin_painting, from_canvas, restyle, story
from ...core.clip.prompts import Prompt, parse_prompts
from .. import sockets
from ..host.comfy import io
from ..host.handles import VQGANHandle
from ..host.images import from_image, to_image
from ..host.painting import ClipHandle, film, make_ready
from ..inputs import (
    clip_input,
    paint_settings_input,
    paint_size_inputs,
    prompts_input,
    seed_input,
    steps_input,
    vqgan_input,
)
from .clip import CATEGORY, lines_of
from .painting import prompts_of, with_steps


class PaintStory(io.ComfyNode):
    """A film by words."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraPaintStory",
            display_name="Paint a Story",
            category=CATEGORY,
            description="Makes a film: scene after scene by words, while the camera goes in, aside or round. Hand its "
            "frames to ComfyUI's Create Video, or to a preview.",
            inputs=[
                vqgan_input(),
                clip_input(),
                seed_input(),
                io.String.Input(
                    "scenes", default="a green forest\na blue lake\na snowy mountain", multiline=True,
                    tooltip="A scene in each line, written as for Paint by Words.",
                ),
                io.Int.Input("frames", default=24, min=1, max=1000, tooltip="Of the whole film, shared out evenly."),
                *paint_size_inputs("Of the film, in pixels."),
                io.Int.Input(
                    "first_steps", default=60, min=1, max=10_000, tooltip="Of the first frame, which begins from noise."
                ),
                steps_input(8, "Of each later frame, which begins from the one before."),
                io.Float.Input("zoom", default=1.03, min=0.5, max=2.0, step=0.005, tooltip="Each frame; 1 stays."),
                io.Float.Input(
                    "right", default=0.0, min=-0.5, max=0.5, step=0.005, tooltip="Share of the width, each frame."
                ),
                io.Float.Input(
                    "down", default=0.0, min=-0.5, max=0.5, step=0.005, tooltip="Share of the height, each frame."
                ),
                io.Float.Input("turn", default=0.0, min=-180.0, max=180.0, step=0.5, tooltip="Degrees, each frame."),
                paint_settings_input(),
                sockets.Canvas.Input(
                    "canvas", optional=True,
                    tooltip="Where the first frame begins, instead of from noise; the film is as large.",
                ),
            ],
            outputs=[io.Image.Output(display_name="frames", tooltip="The film, frame by frame.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        vqgan: VQGANHandle,
        clip: ClipHandle,
        seed: int,
        scenes: str,
        frames: int,
        width: int,
        height: int,
        first_steps: int,
        steps: int,
        zoom: float,
        right: float,
        down: float,
        turn: float,
        settings: GuidanceSettings | None = None,
        canvas: Canvas | None = None,
    ) -> io.NodeOutput:
        listed = [parse_prompts(line) for line in lines_of(scenes)]
        camera = Camera(zoom=zoom, right=right, down=down, turn=turn)
        stride = vqgan.module.config.stride
        size = (height, width) if canvas is None else tuple(side * stride for side in canvas.size)
        module, models = make_ready(vqgan, [clip], size)
        start = begin_painting(module, *size, seed) if canvas is None else from_canvas(module, canvas, seed)
        first = with_steps(settings, first_steps)
        made = story(module, models, listed, start, first, camera, frames, steps)
        return io.NodeOutput(to_image(film(made, frames, first_steps + (frames - 1) * steps)))


class RestyleFilm(io.ComfyNode):
    """Frames by words, one after the other."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraRestyle",
            display_name="Restyle by Words",
            category=CATEGORY,
            description="Leads each picture of a batch, such as the frames of a film, towards words, from what it "
            "shows.",
            inputs=[
                vqgan_input(),
                clip_input(),
                seed_input(),
                io.Image.Input("image", tooltip="The pictures, one after the other."),
                io.String.Input(
                    "text", default="a blue clay model", multiline=True, tooltip="Written as for Paint by Words."
                ),
                steps_input(20, "Of each picture, 15 to 60."),
                io.Float.Input(
                    "hold", default=1.0, min=0.0, max=100.0, step=0.1,
                    tooltip="How strongly each is held to its original: 0.2 wild, 4 gentle.",
                ),
                io.Float.Input(
                    "carry", default=0.3, min=0.0, max=1.0, step=0.05,
                    tooltip="How much of the picture before goes into the next one's beginning: less flicker.",
                ),
                prompts_input(),
                paint_settings_input(),
            ],
            outputs=[io.Image.Output(display_name="pictures", tooltip="The pictures, made up to whole cells.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        vqgan: VQGANHandle,
        clip: ClipHandle,
        seed: int,
        image: Tensor,
        text: str,
        steps: int,
        hold: float,
        carry: float,
        prompts: list[Prompt] | None = None,
        settings: GuidanceSettings | None = None,
    ) -> io.NodeOutput:
        images, held = from_image(image), replace(with_steps(settings, steps), init_weight=hold)
        module, models = make_ready(vqgan, [clip], tuple(images.shape[2:]))
        made = restyle(module, models, prompts_of(text, prompts), images, held, seed, carry)
        return io.NodeOutput(to_image(film(made, len(images), len(images) * steps)))
