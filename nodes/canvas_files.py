"""Nodes that keep canvases, in files of their own and inside pictures, and show them."""

from torch import Tensor

from ..core.canvas.canvas import Canvas
from ..core.canvas.canvas_file import load_canvas, save_canvas
from ..core.canvas.canvas_view import canvas_view
from ..core.images.io import to_pil
from ..core.provenance import KEY, check_vqgan, read_note, write_note
from . import sockets
from .host import comfy, resume
from .host.comfy import io, ui
from .host.handles import VQGANHandle
from .host.images import from_image, to_image
from .inputs import filename_prefix_input, vqgan_input

CATEGORY = "Tessera/canvas"
SUFFIX = ".canvas.safetensors"


class SaveCanvas(io.ComfyNode):
    """A canvas to a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraSaveCanvas",
            display_name="Save Canvas",
            category=CATEGORY,
            description="Writes a canvas to the output folder: its codes and which are known, a few kilobytes. Load "
            "Canvas reads it.",
            inputs=[
                sockets.Canvas.Input("canvas", tooltip="The canvas to save."),
                filename_prefix_input("tessera/canvas"),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, canvas: Canvas, filename_prefix: str) -> io.NodeOutput:
        path = comfy.new_output_file(filename_prefix, SUFFIX)
        save_canvas(path, canvas)
        return io.NodeOutput(ui=ui.PreviewText(path.name))


class LoadCanvas(io.ComfyNode):
    """A canvas from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraLoadCanvas",
            display_name="Load Canvas",
            category=CATEGORY,
            description="Reads a canvas that Save Canvas wrote.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=comfy.files_between(SUFFIX) or ["no canvas saved yet"],
                    tooltip="Canvases in the input and output folders. Press R after you saved one.",
                )
            ],
            outputs=[sockets.Canvas.Output(display_name="canvas", tooltip="As it was saved.")],
        )

    @classmethod
    def validate_inputs(cls, file: str | None) -> bool | str:
        return comfy.missing_file(file, SUFFIX) or True

    @classmethod
    def fingerprint_inputs(cls, file: str) -> int:
        return comfy.file_between(file, SUFFIX).stat().st_mtime_ns

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        return io.NodeOutput(load_canvas(comfy.file_between(file, SUFFIX)))


class RecallCanvas(io.ComfyNode):
    """What a cancelled run left."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraRecallCanvas",
            display_name="Recall Cancelled Canvas",
            category=CATEGORY,
            description="The canvas of the last run of Sample Codes that was cancelled, as far as it was painted: go "
            "on with other settings, or keep it as it is. To go on with the same settings just run it again.",
            inputs=[],
            outputs=[sockets.Canvas.Output(display_name="canvas", tooltip="The painted cells known, the rest not.")],
        )

    @classmethod
    def fingerprint_inputs(cls) -> tuple[str, int]:
        return resume.last_change()

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(resume.last_canvas())


class ShowCanvas(io.ComfyNode):
    """A canvas to look at."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraShowCanvas",
            display_name="Show Canvas",
            category=CATEGORY,
            description="Shows a canvas with its cells drawn in, unknown ones crossed out.",
            inputs=[vqgan_input(), sockets.Canvas.Input("canvas", tooltip="The canvas to look at.")],
            outputs=[io.Image.Output(display_name="picture", tooltip="The decoded picture with lines between cells.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, vqgan: VQGANHandle, canvas: Canvas) -> io.NodeOutput:
        with vqgan.watched(canvas) as module:
            picture = to_image(canvas_view(module, canvas))
        return io.NodeOutput(picture, ui=comfy.saved_pictures(picture, cls))


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
                filename_prefix_input("tessera/picture"),
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
