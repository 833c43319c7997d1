"""Pictures that tile."""

from torch import Tensor

from ..core.images.tiles import repeat_image
from .host import comfy
from .host.comfy import io
from .host.images import from_image, to_image


class TilePreview(io.ComfyNode):
    """A picture beside itself."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraTilePreview",
            display_name="Tile Preview",
            category="Tessera/compare",
            description="Lays a picture beside and below itself, so that seams show where it doesn't fit its own other "
            "end.",
            inputs=[
                io.Image.Input("image", tooltip="The picture, or several."),
                io.Int.Input("across", default=3, min=1, max=16, tooltip="How often beside itself."),
                io.Int.Input("down", default=3, min=1, max=16, tooltip="How often below itself."),
            ],
            outputs=[io.Image.Output(display_name="tiled", tooltip="So many times as wide and as high.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, image: Tensor, across: int, down: int) -> io.NodeOutput:
        tiled = to_image(repeat_image(from_image(image), across, down))
        return io.NodeOutput(tiled, ui=comfy.saved_pictures(tiled, cls))
