"""Nodes that keep canvases, and show them."""

from ..core.canvas.canvas import Canvas
from ..core.canvas.canvas_file import load_canvas, save_canvas
from ..core.canvas.canvas_view import canvas_view
from . import sockets
from .codes import vqgan_input
from .host import comfy, resume
from .host.comfy import io, ui
from .host.handles import VQGANHandle
from .host.images import to_image

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
                io.String.Input("filename_prefix", default="tessera/canvas", tooltip="Folder and start of the name."),
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
        picture = to_image(canvas_view(vqgan.ready_for(canvas), canvas))
        return io.NodeOutput(picture, ui=comfy.saved_pictures(picture, cls))
