"""Nodes for pictures that remember their codes."""

from torch import Tensor

from ..core.canvas.canvas import Canvas
from ..core.images.io import to_pil
from ..core.provenance import KEY, check_vqgan, read_note, write_note
from . import sockets
from .codes import vqgan_input
from .host import comfy
from .host.comfy import io
from .host.handles import VQGANHandle
from .host.images import from_image

CATEGORY = "Tessera/canvas"


class SavePicture(io.ComfyNode):
    """A picture and its canvas in one PNG."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraSavePicture",
            display_name="Save Picture and Canvas",
            category=CATEGORY,
            description="Saves pictures as PNG with their codes, how they were painted and the workflow inside. Load "
            "Canvas of Picture gets all of it back.",
            inputs=[
                vqgan_input(),
                io.Image.Input("image", tooltip="The pictures, as the canvas was decoded or edited since."),
                sockets.Canvas.Input("canvas", tooltip="Their canvas, as many pictures."),
                io.String.Input("filename_prefix", default="tessera/picture", tooltip="Folder and start of the name."),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, vqgan: VQGANHandle, image: Tensor, canvas: Canvas, filename_prefix: str) -> io.NodeOutput:
        canvas = canvas if comfy.keeps_metadata() else canvas.with_provenance(())
        notes = [write_note(canvas, number, vqgan.fingerprint) for number in range(len(canvas.indices))]
        return io.NodeOutput(ui=comfy.save_pictures(to_pil(from_image(image)), filename_prefix, KEY, notes, cls))


class LoadCanvasOfPicture(io.ComfyNode):
    """The canvas inside a PNG."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraLoadCanvasOfPicture",
            display_name="Load Canvas of Picture",
            category=CATEGORY,
            description="Gets the codes out of a PNG that Save Picture and Canvas wrote, exactly as they were.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=comfy.files_between(".png") or ["no picture saved yet"],
                    tooltip="PNGs in the input and output folders. Press R after you saved one.",
                ),
                sockets.VQGAN.Input(
                    "vqgan", optional=True, tooltip="To make sure that it is the one that decoded the picture."
                ),
            ],
            outputs=[
                sockets.Canvas.Output(display_name="canvas", tooltip="The picture's codes."),
                io.String.Output(
                    display_name="origin",
                    tooltip="How it was painted: seed, settings, stride and the fingerprint of the weights, as JSON. "
                    "Empty if it was encoded.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, file: str | None) -> bool | str:
        return comfy.missing_file(file, ".png") or True

    @classmethod
    def fingerprint_inputs(cls, file: str, vqgan: VQGANHandle | None = None) -> int:
        return comfy.file_between(file, ".png").stat().st_mtime_ns

    @classmethod
    def execute(cls, file: str, vqgan: VQGANHandle | None = None) -> io.NodeOutput:
        note = read_note(comfy.file_between(file, ".png"))
        if vqgan is not None:
            check_vqgan(note, vqgan.fingerprint, file)
        return io.NodeOutput(note.canvas, note.canvas.provenance[0])
