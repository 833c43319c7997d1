"""Nodes between pictures and codes."""

from ..core.canvas import Canvas
from ..core.codec import decode_canvas
from . import sockets
from .host import io
from .models import VQGANHandle
from .pictures import to_image

CATEGORY = "Tessera/codes"


def vqgan_input() -> io.Input:
    """The VQGAN that encodes or decodes."""
    return sockets.VQGAN.Input("vqgan", tooltip="From Load Tessera Model or Load VQGAN.")


class DecodeCanvas(io.ComfyNode):
    """A canvas as a picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraDecodeCanvas",
            display_name="Decode Canvas",
            category=CATEGORY,
            description="Makes a picture of a canvas. Unknown cells are gray. Any VQGAN with the same number of codes "
            "can decode it; another than made it gives another world.",
            inputs=[vqgan_input(), sockets.Canvas.Input("canvas", tooltip="The canvas to look at.")],
            outputs=[io.Image.Output(display_name="picture", tooltip="Trimmed to the size the canvas was made for.")],
        )

    @classmethod
    def execute(cls, vqgan: VQGANHandle, canvas: Canvas) -> io.NodeOutput:
        return io.NodeOutput(to_image(decode_canvas(vqgan.ready_for(canvas), canvas)))
