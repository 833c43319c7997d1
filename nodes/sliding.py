"""Nodes for canvases larger than the model's window: how the window goes over them, and what that will take."""

from typing import get_args

from ..core.canvas.canvas import Canvas
from ..core.geometry import Wrap
from ..core.prepared import PreparedCondition
from ..core.sampling.settings import SamplingSettings
from ..core.sampling.windows import Sliding
from . import sockets
from .host import comfy
from .host.comfy import io, ui
from .host.handles import BundleHandle
from .host.sampling import SamplingRequest, WindowChoice, plan
from .inputs import DEFAULT_SETTINGS, canvas_inputs, model_input, pictures_input

STRIDES = ["1", "2", "4", "8"]  # a list to choose from, since nothing between them is allowed


class SlidingWindow(io.ComfyNode):
    """How the window moves, and where the picture goes on with its other end."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraSlidingWindow",
            display_name="Sliding Window",
            category="Tessera",
            description="How large pictures are painted, and whether they tile. The model looks at a window of cells, "
            "usually 256 pixels a side; over a larger picture the window slides. Larger steps are faster; wrapped "
            "around its borders, the picture becomes a panorama or a seamless texture.",
            inputs=[
                io.Combo.Input(
                    "stride", options=STRIDES, default="4",
                    tooltip="Cells that the window moves at a time. 1: the best the model can do, and the slowest. 4: "
                    "several times as fast, hardly a difference. 8: fastest, less of one piece.",
                ),
                io.Combo.Input(
                    "wrap", options=list(get_args(Wrap)), default="none",
                    tooltip="x: left and right fit together, for panoramas. y: top and bottom. both: a tile without "
                    "seams. none: borders end as usual.",
                ),
            ],
            outputs=[
                sockets.Sliding.Output(display_name="sliding", tooltip="For Sample Codes, Plan Run and the like.")
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, stride: str, wrap: str) -> io.NodeOutput:
        return io.NodeOutput(WindowChoice(Sliding(stride=int(stride)), wrap))


class PlanRun(io.ComfyNode):
    """What a run would take."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraPlanRun",
            display_name="Plan Run",
            category="Tessera",
            description="Says what Sample Codes would take with the same inputs, without painting anything: cells, "
            "windows, time and memory, from a short trial on this machine.",
            inputs=[model_input(), pictures_input(), *canvas_inputs()],
            outputs=[
                io.String.Output(display_name="plan", tooltip="All of it in one line."),
                io.Int.Output(display_name="cells", tooltip="How often a cell is painted, in each picture."),
                io.Int.Output(display_name="windows", tooltip="How many windows have to be read from the beginning."),
                io.Float.Output(display_name="seconds", tooltip="About how long it takes, on this machine as it is."),
                io.Float.Output(display_name="megabytes", tooltip="About how much memory it takes besides the model."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        model: BundleHandle,
        pictures: int,
        condition: PreparedCondition | None = None,
        canvas: Canvas | None = None,
        settings: SamplingSettings | None = None,
        sliding: WindowChoice | None = None,
    ) -> io.NodeOutput:
        request = SamplingRequest(
            model=model, condition=condition, canvas=canvas, settings=settings or DEFAULT_SETTINGS, window=sliding,
            pictures=pictures,
        )  # fmt: skip
        planned = plan(request)
        text, megabytes = planned.summary(), planned.memory / 2**20
        comfy.say(text)
        return io.NodeOutput(text, planned.cells, planned.windows, planned.seconds, megabytes, ui=ui.PreviewText(text))
