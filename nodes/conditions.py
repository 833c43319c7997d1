"""Nodes that guide a picture."""

from typing import get_args

from torch import Tensor

from ..core.edges import LineSource, lines_of
from ..core.fit import Fit, fit
from ..core.guide import guide_by_picture, seen
from . import host, sockets
from .host import io
from .models import BundleHandle
from .pictures import from_image, to_image

CATEGORY = "Tessera/conditions"


def model_input() -> io.Input:
    """The model that is guided."""
    return sockets.Bundle.Input("model", tooltip="The model to guide, from Load Tessera Model.")


def fit_input() -> io.Input:
    """How a picture is brought to the size of the one to be made."""
    return io.Combo.Input(
        "size",
        options=list(get_args(Fit)),
        default="square",
        tooltip="Size of the new picture. square: the middle of yours, as large as the model was trained on. whole "
        "picture: the shorter side as large as that. original size: as yours is; takes longest.",
    )


def condition_outputs() -> list[io.Output]:
    """What every condition made of a picture gives."""
    return [
        sockets.Condition.Output(display_name="condition", tooltip="Guides Sample Codes."),
        io.Image.Output(
            display_name="seen",
            tooltip="What the model sees: the condition picture after its own VQGAN made codes of it. What is lost "
            "here can't guide anything.",
        ),
    ]


class Edges(io.ComfyNode):
    """Lines guide the picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraEdges",
            display_name="Edges",
            category=CATEGORY,
            description="Lets lines guide the new picture: the edges of a photograph, a drawing, or the output of "
            "any edge detector (Canny, HED, scribble ...).",
            inputs=[
                model_input(),
                io.Image.Input("image", tooltip="The picture that gives the lines."),
                io.Combo.Input(
                    "picture_is",
                    options=list(get_args(LineSource)),
                    default="photograph",
                    tooltip="photograph: edges are found in it. lines: bright on black, as edge detectors draw them. "
                    "drawing: dark strokes on a light ground.",
                ),
                fit_input(),
                io.Float.Input(
                    "low", default=50.0, min=0.0, max=1000.0, step=5.0,
                    tooltip="Photographs only: an edge is followed as long as the gradient is above this, 0 to 1000. "
                    "Lower gives longer lines.",
                ),
                io.Float.Input(
                    "high", default=120.0, min=0.0, max=1000.0, step=5.0,
                    tooltip="Photographs only: an edge begins where the gradient is above this, 0 to 1000. "
                    "Lower gives more lines.",
                ),
                io.Float.Input(
                    "blur", default=2.0, min=0.0, max=20.0, step=0.1,
                    tooltip="Photographs only: blurred by so many pixels before edges are looked for. Higher leaves "
                    "out grain and texture.",
                ),
            ],
            outputs=[
                *condition_outputs(),
                io.Image.Output(display_name="lines", tooltip="The lines before quantization, white on black."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model: BundleHandle, image: Tensor, picture_is: str, size: str, low: float, high: float, blur: float
    ) -> io.NodeOutput:
        picture = fit(from_image(image), size, model.side, lines=picture_is == "lines")
        lines = lines_of(picture, picture_is, low, high, blur)
        bundle = model.ready_for_condition(*lines.shape[-2:])
        guide = guide_by_picture(bundle, "edges", lines)
        prior_sees = to_image(seen(bundle, guide))
        return io.NodeOutput(guide, prior_sees, to_image(lines), ui=host.saved_pictures(prior_sees, cls))
