"""Control of prompts by an image, cell by cell."""

from torch import Tensor

from ..core.images.resize import fit
from ..core.prepared import PreparedCondition, prepare_control
from . import sockets
from .conditions import CATEGORY, fit_input, model_input
from .host.comfy import io
from .host.handles import BundleHandle
from .host.images import from_image, from_mask


class Control(io.ComfyNode):
    """An image of edges, depth or segments controls a prompted picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraControl",
            display_name="Control",
            category=CATEGORY,
            description="Lets an image of edges, depth or segments control a prompted picture, for ControlAR's models. "
            "Takes what preprocessor nodes make as it is: canny, HED, line art, depth or segments, as the model "
            "learned.",
            inputs=[
                model_input(),
                sockets.Condition.Input("condition", tooltip="From Prompt."),
                io.Image.Input(
                    "image",
                    tooltip="What a preprocessor made: lines bright on black, near is bright, or segments in colors.",
                ),
                fit_input(),
                io.Float.Input(
                    "strength", default=1.0, min=0.0, max=1.0, step=0.05,
                    tooltip="How closely the image is followed: 0 not at all, 1 as the model learned; ControlAR's base "
                    "files are used with 0.6.",
                ),
                io.Mask.Input(
                    "strength_map",
                    optional=True,
                    tooltip="Where to follow it: strength in white, nothing in black, and anything between.",
                ),
            ],
            outputs=[sockets.Condition.Output(display_name="condition", tooltip="Guides Sample Codes.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        model: BundleHandle,
        condition: PreparedCondition,
        image: Tensor,
        size: str,
        strength: float,
        strength_map: Tensor | None = None,
    ) -> io.NodeOutput:
        images = fit(from_image(image), size, model.side)
        where = None if strength_map is None else from_mask(strength_map)
        bundle = model.ready_for_control(*images.shape[-2:])
        return io.NodeOutput(prepare_control(bundle, condition, images, strength, where))
