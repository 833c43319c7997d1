"""Nodes that change a canvas before it is sampled."""

from typing import get_args

from torch import Tensor

from ..core.canvas.canvas import Canvas
from ..core.canvas.codec import empty_canvas
from ..core.canvas.edits import Side, blend, keep_side, masked_cells, pad_unknown
from . import sockets
from .host import comfy
from .host.comfy import io
from .host.handles import VQGANHandle
from .host.images import constant_mask, from_mask
from .inputs import size_inputs, vqgan_input

CATEGORY = "Tessera/canvas"
MAX_CELLS = 1024  # a side


def canvas_input(name: str = "canvas", tooltip: str = "The canvas to change.") -> io.Input:
    """A canvas."""
    return sockets.Canvas.Input(name, tooltip=tooltip)


def canvas_output(tooltip: str) -> io.Output:
    """The changed canvas."""
    return sockets.Canvas.Output(display_name="canvas", tooltip=tooltip)


def cells_input(name: str, default: int, tooltip: str, least: int = 0) -> io.Input:
    """A number of cells."""
    return io.Int.Input(name, default=default, min=least, max=MAX_CELLS, tooltip=tooltip)


def grow_input() -> io.Input:
    """How far beyond the painted cells."""
    return io.Int.Input("grow", default=0, min=0, max=64, tooltip="Take in so many cells around the painted ones.")


class EmptyCanvas(io.ComfyNode):
    """Nothing known yet."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraEmptyCanvas",
            display_name="Empty Canvas",
            category=CATEGORY,
            description="A canvas of any size with nothing on it, for pictures that nothing guides, or a class or "
            "coordinates do. Conditions made of pictures bring their own.",
            inputs=[
                vqgan_input(),
                *size_inputs(),
            ],
            outputs=[canvas_output("All cells unknown.")],
        )

    @classmethod
    def execute(cls, vqgan: VQGANHandle, width: int, height: int) -> io.NodeOutput:
        return io.NodeOutput(empty_canvas(height, width, vqgan.module.config.stride))


class KeepHalf(io.ComfyNode):
    """Picture completion."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraKeepHalf",
            display_name="Keep Half",
            category=CATEGORY,
            description="Keeps one side of a picture and forgets the rest, for Sample Codes to complete.",
            inputs=[
                canvas_input(),
                io.Combo.Input("side", options=list(get_args(Side)), default="top", tooltip="The side that is kept. "
                "The model paints row by row from the top, so it knows most when the top is kept."),
                io.Float.Input(
                    "share", default=0.5, min=0.0, max=1.0, step=0.01, display_mode=io.NumberDisplay.slider,
                    tooltip="How much of the picture is kept.",
                ),
            ],
            outputs=[canvas_output("The rest of it unknown.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, canvas: Canvas, side: str, share: float) -> io.NodeOutput:
        return io.NodeOutput(keep_side(canvas, side, share))


class Forget(io.ComfyNode):
    """Inpainting."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraForget",
            display_name="Forget Painted Cells (Inpaint)",
            category=CATEGORY,
            description="Forgets the cells under a mask, for Sample Codes to paint anew. The model looks above and to "
            "the left; what lies below and to the right of the hole it does not see.",
            inputs=[
                canvas_input(),
                io.Mask.Input("mask", tooltip="White is painted anew. Laid over the picture whatever its size."),
                io.Float.Input(
                    "share", default=0.1, min=0.0, max=0.99, step=0.01,
                    tooltip="A cell is forgotten if more than this share of it is painted; 0 takes any touch.",
                ),
                grow_input(),
            ],
            outputs=[canvas_output("The painted cells unknown.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, canvas: Canvas, mask: Tensor, share: float, grow: int) -> io.NodeOutput:
        return io.NodeOutput(canvas.forget(masked_cells(canvas, from_mask(mask), share, grow)))


class Lock(io.ComfyNode):
    """The opposite of forgetting."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraLock",
            display_name="Lock Painted Cells",
            category=CATEGORY,
            description="Keeps the cells under a mask and forgets all others, for Sample Codes to paint around them.",
            inputs=[
                canvas_input(),
                io.Mask.Input("mask", tooltip="White is kept. Laid over the picture whatever its size."),
                io.Float.Input(
                    "share", default=0.5, min=0.0, max=0.99, step=0.01,
                    tooltip="A cell is kept if more than this share of it is painted.",
                ),
                grow_input(),
            ],
            outputs=[canvas_output("All but the painted cells unknown.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, canvas: Canvas, mask: Tensor, share: float, grow: int) -> io.NodeOutput:
        return io.NodeOutput(canvas.forget(~masked_cells(canvas, from_mask(mask), share, grow)))


class Outpaint(io.ComfyNode):
    """Unknown cells around a picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraOutpaint",
            display_name="Outpaint",
            category=CATEGORY,
            description="Adds unknown cells around a canvas, for Sample Codes to paint. A condition made of a picture "
            "has to be as large: pad that picture too.",
            inputs=[
                canvas_input(),
                cells_input("left", 4, "Cells to add on the left; one is usually 16 pixels."),
                cells_input("top", 0, "Cells to add above."),
                cells_input("right", 4, "Cells to add on the right."),
                cells_input("bottom", 0, "Cells to add below."),
            ],
            outputs=[canvas_output("Larger, the new cells unknown.")],
        )

    @classmethod
    def execute(cls, canvas: Canvas, left: int, top: int, right: int, bottom: int) -> io.NodeOutput:
        return io.NodeOutput(pad_unknown(canvas, top, right, bottom, left))


class Crop(io.ComfyNode):
    """A part of a canvas."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraCropCanvas",
            display_name="Crop Canvas",
            category=CATEGORY,
            description="Cuts a rectangle of cells out of a canvas.",
            inputs=[
                canvas_input(),
                cells_input("left", 0, "First column, cells."),
                cells_input("top", 0, "First row, cells."),
                cells_input("width", 16, "Columns, cells.", least=1),
                cells_input("height", 16, "Rows, cells.", least=1),
            ],
            outputs=[canvas_output("The rectangle.")],
        )

    @classmethod
    def execute(cls, canvas: Canvas, left: int, top: int, width: int, height: int) -> io.NodeOutput:
        return io.NodeOutput(canvas.crop(top, left, height, width))


class Paste(io.ComfyNode):
    """A canvas laid over another."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraPasteCanvas",
            display_name="Paste Canvas",
            category=CATEGORY,
            description="Lays the known cells of one canvas over another: collage. Forget the seam and sample it "
            "again, and it heals.",
            inputs=[
                canvas_input(tooltip="The canvas below."),
                canvas_input("patch", "Its known cells are laid over."),
                cells_input("left", 0, "Column where the patch begins, cells."),
                cells_input("top", 0, "Row where the patch begins, cells."),
            ],
            outputs=[sockets.Canvas.Output(display_name="pasted", tooltip="Both in one.")],
        )

    @classmethod
    def execute(cls, canvas: Canvas, patch: Canvas, left: int, top: int) -> io.NodeOutput:
        return io.NodeOutput(canvas.paste(patch, top, left))


class Roll(io.ComfyNode):
    """A canvas shifted around its border."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraRollCanvas",
            display_name="Roll Canvas",
            category=CATEGORY,
            description="Shifts a canvas; what leaves on one side enters on the other. Brings the border into the "
            "middle, to look at it or to paint it anew.",
            inputs=[
                canvas_input(),
                io.Int.Input("right", default=8, min=-MAX_CELLS, max=MAX_CELLS, tooltip="Cells to the right."),
                io.Int.Input("down", default=8, min=-MAX_CELLS, max=MAX_CELLS, tooltip="Cells down."),
            ],
            outputs=[canvas_output("The same cells elsewhere.")],
        )

    @classmethod
    def execute(cls, canvas: Canvas, right: int, down: int) -> io.NodeOutput:
        return io.NodeOutput(canvas.roll(down, right))


class Blend(io.ComfyNode):
    """A mix of two canvases."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraBlendCanvas",
            display_name="Blend Canvases",
            category=CATEGORY,
            description="Mixes two canvases of one size: at each cell the code nearest to the mix of both codes.",
            inputs=[
                vqgan_input(),
                canvas_input("a", "Where amount is 0."),
                canvas_input("b", "Where amount is 1."),
                io.Float.Input(
                    "amount", default=0.5, min=0.0, max=1.0, step=0.01, display_mode=io.NumberDisplay.slider,
                    tooltip="Of b; not used where a mask is connected.",
                ),
                io.Mask.Input("mask", optional=True, tooltip="The amount, painted: black is a, white is b."),
            ],
            outputs=[canvas_output("The mix.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, vqgan: VQGANHandle, a: Canvas, b: Canvas, amount: float, mask: Tensor | None = None
    ) -> io.NodeOutput:
        share = constant_mask(amount) if mask is None else from_mask(mask)
        with comfy.Cancellable():
            return io.NodeOutput(blend(vqgan.module, a, b, share))
