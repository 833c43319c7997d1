"""A scene layout guides the picture: which objects stand where."""

from ..core.canvas.codec import empty_canvas
from ..core.conditions.layout import boxes_view, parse_boxes
from ..core.prepared import prepare_layout_condition
from . import sockets
from .conditions import CATEGORY
from .host import comfy
from .host.comfy import io
from .host.handles import BundleHandle
from .host.images import to_image
from .inputs import conditioned_model_input, size_inputs

EXAMPLE = "0 0 0.55 1 0.45  # label left top width height\n1 0.1 0.25 0.35 0.5\n2 0.6 0.35 0.3 0.4"


class SceneLayout(io.ComfyNode):
    """Boxes guide the picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraLayout",
            display_name="Scene Layout",
            category=CATEGORY,
            description="Lets a coarse layout guide the new picture: boxes that say which object stands where, for "
            "models trained on such scenes.",
            inputs=[
                conditioned_model_input(),
                io.String.Input(
                    "boxes", multiline=True, default=EXAMPLE,
                    tooltip="A box a line: label left top width height. The label is the number of a class of the "
                    "dataset that the model was trained on, the others are shares of the picture from 0 to 1.",
                ),
                *size_inputs(),
            ],
            outputs=[
                sockets.Condition.Output(display_name="condition", tooltip="Guides Sample Codes."),
                io.Image.Output(display_name="layout", tooltip="The boxes with their labels, to look at."),
            ],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def execute(cls, model: BundleHandle, boxes: str, width: int, height: int) -> io.NodeOutput:
        placed = parse_boxes(boxes)
        condition = prepare_layout_condition(
            model.bundle, placed, empty_canvas(height, width, model.vqgan.module.config.stride)
        )
        shown = to_image(boxes_view(placed, height, width))
        return io.NodeOutput(condition, shown, ui=comfy.saved_pictures(shown, cls))
