"""Nodes that paint by words: a picture, a story, a film in another style."""

from dataclasses import replace
from typing import get_args

from torch import Tensor

from ...core.canvas.canvas import Canvas
from ...core.canvas.masks import mask_to_cells
from ...core.clip.cutouts import CutoutSettings, Kind
from ...core.clip.guidance import GuidanceSettings
from ...core.clip.painting import begin_painting, from_canvas
from ...core.clip.prompts import Prompt, parse_prompts
from .. import sockets
from ..host import comfy
from ..host.comfy import io
from ..host.handles import VQGANHandle
from ..host.images import from_mask, to_image
from ..host.painting import ClipHandle, paint
from ..inputs import (
    clip_input,
    paint_settings_input,
    paint_size_inputs,
    prompts_input,
    seed_input,
    steps_input,
    vqgan_input,
)
from .clip import CATEGORY

DEFAULT = GuidanceSettings()


class PaintSettings(io.ComfyNode):
    """How a picture is led."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraPaintSettings",
            display_name="Paint Settings",
            category=CATEGORY,
            description="How a picture is led by words. The defaults suit most pictures; more views are calmer and "
            "slower.",
            inputs=[
                io.Float.Input(
                    "rate", default=DEFAULT.learning_rate, min=0.001, max=2.0, step=0.005,
                    tooltip="How far each step goes, in standard deviations of the codebook. Too low: gray and vague. "
                    "Too high: specks and jumping colors.",
                ),
                io.Int.Input(
                    "views", default=DEFAULT.cutouts.count, min=1, max=256,
                    tooltip="How many views of the picture CLIP judges in each step. 8 to 16 are enough without a GPU.",
                ),
                io.Combo.Input(
                    "kind", options=list(get_args(Kind)), default=DEFAULT.cutouts.kind,
                    tooltip="mixed: half the whole picture, half any part of it. crop: parts as the first notebooks "
                    "took them. whole: composition only. zoom: close, for details.",
                ),
                io.Boolean.Input(
                    "augment", default=DEFAULT.cutouts.augment,
                    tooltip="Turn, tilt, light and hole the views: fewer small copies of the thing, more depth.",
                ),
                io.Float.Input(
                    "hold", default=DEFAULT.init_weight, min=0.0, max=100.0, step=0.1,
                    tooltip="How strongly the picture is held to where it began; 0.2 to 4 with a canvas, 0 without.",
                ),
                io.Float.Input(
                    "calm", default=DEFAULT.pull, min=0.0, max=100.0, step=0.1,
                    tooltip="Pulls towards the middle of the codebook, fading until half of the steps: large shapes "
                    "first, details later.",
                ),
                io.Float.Input(
                    "average", default=DEFAULT.average, min=0.0, max=0.999, step=0.01,
                    tooltip="How slowly the picture shown follows the steps; 0 shows the last step itself.",
                ),
            ],
            outputs=[sockets.Painting.Output(display_name="settings", tooltip="For Paint by Words.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, rate: float, views: int, kind: Kind, augment: bool, hold: float, calm: float, average: float
    ) -> io.NodeOutput:
        cutouts = CutoutSettings(count=views, kind=kind, augment=augment)
        return io.NodeOutput(
            GuidanceSettings(learning_rate=rate, cutouts=cutouts, init_weight=hold, pull=calm, average=average)
        )


class PaintByWords(io.ComfyNode):
    """A picture by words."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraPaintByWords",
            display_name="Paint by Words",
            category=CATEGORY,
            description="Makes a picture that CLIP finds to fit words, step by step, with any VQGAN. The picture stays "
            "within what the VQGAN can paint and CLIP knows. Cancel keeps what is painted: run the same again and it "
            "goes on from there.",
            inputs=[
                vqgan_input(),
                clip_input(),
                seed_input(),
                io.String.Input(
                    "text", default="a strawberry with a crown", multiline=True,
                    tooltip="What to paint, in English or Spanish. A vertical bar separates prompts, a number after "
                    "a colon is a weight. With further prompts it may be empty.",
                ),
                *paint_size_inputs("Of a new picture, in pixels; of a canvas its own counts."),
                steps_input(DEFAULT.steps, "100 to 300; most happens in the first 100."),
                io.Int.Input(
                    "preview_every", default=5, min=0, max=10_000,
                    tooltip="Show the picture after each so many steps; 0 for never.",
                ),
                prompts_input(),
                sockets.Canvas.Input("canvas", optional=True, tooltip="Where to begin, instead of from soft noise."),
                io.Mask.Input(
                    "mask", optional=True, tooltip="White where the picture may change; left open, everywhere."
                ),
                sockets.CLIP.Input(
                    "second_clip", optional=True, tooltip="Another CLIP that leads too: fewer tricks, better pictures."
                ),
                paint_settings_input(),
            ],
            outputs=[
                io.Image.Output(display_name="picture", tooltip="The finished picture."),
                sockets.Canvas.Output(display_name="canvas", tooltip="Its codes, to go on with."),
            ],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        vqgan: VQGANHandle,
        clip: ClipHandle,
        seed: int,
        text: str,
        width: int,
        height: int,
        steps: int,
        preview_every: int,
        prompts: list[Prompt] | None = None,
        canvas: Canvas | None = None,
        mask: Tensor | None = None,
        second_clip: ClipHandle | None = None,
        settings: GuidanceSettings | None = None,
    ) -> io.NodeOutput:
        stride = vqgan.module.config.stride
        cells = canvas.size if canvas is not None else (-(-height // stride), -(-width // stride))
        size = (cells[0] * stride, cells[1] * stride)
        free = None if mask is None else mask_to_cells(from_mask(mask), Canvas.empty(1, *cells))[0] > 0.5

        def begin(module):
            return begin_painting(module, *size, seed) if canvas is None else from_canvas(module, canvas, seed)

        painted = paint(
            vqgan, [one for one in (clip, second_clip) if one], prompts_of(text, prompts), begin, size,
            with_steps(settings, steps), preview_every, free,
        )  # fmt: skip
        picture = to_image(vqgan.decode(painted))
        return io.NodeOutput(picture, painted, ui=comfy.finished_pictures(picture, cls))


def prompts_of(text: str, prompts: list[Prompt] | None) -> list[Prompt]:
    """Those of a text, unless it is empty and there are others, and others."""
    return [*(parse_prompts(text) if text.strip() or not prompts else []), *(prompts or [])]


def with_steps(settings: GuidanceSettings | None, steps: int) -> GuidanceSettings:
    """The same settings with another number of steps."""
    return replace(settings or DEFAULT, steps=steps)
