"""Nodes that make pictures."""

from torch import Tensor

from ..core.canvas.canvas import Canvas
from ..core.prepared import PreparedCondition
from ..core.sampling.settings import SamplingSettings, painted_settings
from ..core.sampling.state import statistics_masks
from . import sockets
from .host import comfy
from .host.comfy import io
from .host.handles import BundleHandle
from .host.images import from_mask, to_image, to_mask
from .host.sampling import SamplingRequest, WindowChoice, finish, run, save_trace
from .inputs import DEFAULT_SETTINGS, canvas_inputs, model_input, pictures_input, preview_input, seed_input


class Settings(io.ComfyNode):
    """How boldly codes are drawn."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraSamplingSettings",
            display_name="Sampling Settings",
            category="Tessera",
            description="How boldly the model paints. Change one thing and keep the seed: the picture changes a "
            "little, it is not another one.",
            inputs=[
                io.Float.Input(
                    "temperature", default=DEFAULT_SETTINGS.temperature, min=0.0, max=3.0, step=0.01,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="0: always the most likely code, smooth and dull. 1: as the model was trained. Above: "
                    "wilder.",
                ),
                io.Int.Input(
                    "top_k", default=DEFAULT_SETTINGS.top_k, min=0, max=1_000_000,
                    tooltip="Draw among the so many most likely codes only; 0 is off. 100 tidies up stray codes.",
                ),
                io.Float.Input(
                    "top_p", default=DEFAULT_SETTINGS.top_p, min=0.01, max=1.0, step=0.01,
                    tooltip="Draw among the fewest codes that together hold this share of the probability; 1 is off.",
                ),
                io.Float.Input(
                    "min_p", default=DEFAULT_SETTINGS.min_p, min=0.0, max=1.0, step=0.01,
                    tooltip="Leave out codes less likely than this share of the most likely one; 0 is off.",
                ),
                io.Float.Input(
                    "guidance", default=DEFAULT_SETTINGS.guidance_scale, min=0.0, max=20.0, step=0.1, optional=True,
                    tooltip="How strongly the condition pulls, for models that have learned to do without, such as "
                    "emoji-sketch: 1 is off, 2 doubles what they change and takes twice the time.",
                ),
            ],
            outputs=[sockets.Sampling.Output(display_name="settings", tooltip="For Sample Codes.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, temperature: float, top_k: int, top_p: float, min_p: float, guidance: float | None = None
    ) -> io.NodeOutput:
        guidance = DEFAULT_SETTINGS.guidance_scale if guidance is None else guidance
        return io.NodeOutput(
            SamplingSettings(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, guidance_scale=guidance)
        )


class TemperatureMap(io.ComfyNode):
    """Boldness, painted."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraTemperatureMap",
            display_name="Temperature Map",
            category="Tessera",
            description="Paints the temperature: calm where the mask is black, wild where it is white, and anything "
            "between.",
            inputs=[
                io.Mask.Input("mask", tooltip="Laid over the new picture whatever its size; blur it for soft borders."),
                io.Float.Input(
                    "black", default=0.3, min=0.0, max=3.0, step=0.01, display_mode=io.NumberDisplay.slider,
                    tooltip="Temperature where the mask is black.",
                ),
                io.Float.Input(
                    "white", default=1.2, min=0.0, max=3.0, step=0.01, display_mode=io.NumberDisplay.slider,
                    tooltip="Temperature where the mask is white.",
                ),
                sockets.Sampling.Input(
                    "settings", optional=True, tooltip="Everything else is taken from these settings."
                ),
            ],
            outputs=[sockets.Sampling.Output(display_name="settings", tooltip="For Sample Codes.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, mask: Tensor, black: float, white: float, settings: SamplingSettings | None = None
    ) -> io.NodeOutput:
        return io.NodeOutput(painted_settings(settings or DEFAULT_SETTINGS, from_mask(mask), black, white))


class SampleCodes(io.ComfyNode):
    """Fills a canvas and decodes it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraSampleCodes",
            display_name="Sample Codes",
            category="Tessera",
            description="Paints the unknown cells of a canvas, code by code. Cancel, or an error, keeps what is "
            "painted: run the same again and it goes on from there.",
            inputs=[
                model_input(),
                seed_input(),
                pictures_input(),
                preview_input(),
                *canvas_inputs(),
            ],
            outputs=[
                io.Image.Output(display_name="picture", tooltip="The finished picture."),
                sockets.Canvas.Output(display_name="canvas", tooltip="The finished canvas, all cells known."),
                io.Mask.Output(
                    display_name="entropy",
                    tooltip="How undecided the model was at each cell: 0 sure, 1 any code would do. 0 where cells "
                    "were known.",
                ),
                io.Mask.Output(
                    display_name="surprise",
                    tooltip="How unlikely the code of each cell is to the model (-log p): 0 expected, 1 as unlikely "
                    "as a code picked blindly, or more.",
                ),
            ],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        model: BundleHandle,
        seed: int,
        pictures: int,
        preview_every: int,
        condition: PreparedCondition | None = None,
        canvas: Canvas | None = None,
        settings: SamplingSettings | None = None,
        sliding: WindowChoice | None = None,
    ) -> io.NodeOutput:
        request = SamplingRequest(
            model=model, condition=condition, canvas=canvas, settings=settings or DEFAULT_SETTINGS, window=sliding,
            seed=seed, pictures=pictures,
        )  # fmt: skip
        sampled = run(request, preview_every)
        made = model.vqgan.decode(sampled.canvas)
        picture, config = to_image(made), model.bundle.vqgan.config
        entropy, surprise = statistics_masks(sampled.state, sampled.canvas, config.codebook_size, config.stride)
        trace = save_trace(sampled, made, model.bundle.vqgan)
        shown = comfy.finished_pictures(picture, cls, tessera_forecast=trace)
        finish(sampled)
        return io.NodeOutput(picture, sampled.canvas, to_mask(entropy), to_mask(surprise), ui=shown)
