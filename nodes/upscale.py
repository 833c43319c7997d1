"""A node for what was painted larger than it was."""

from torch import Tensor

from ..core.images.agreement import agree
from .host import comfy
from .host.comfy import io
from .host.images import from_image, to_image


class AgreeWithSmallPicture(io.ComfyNode):
    """The small picture's colors, the large picture's detail."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraAgreeWithSmallPicture",
            display_name="Agree with Small Picture",
            category="Tessera/canvas",
            description="After super-resolution: changes a large picture as little as it takes to be the small one "
            "again when it is made small. Colors and light are then the small picture's own, and only the detail is "
            "the model's.",
            inputs=[
                io.Image.Input("image", tooltip="The large picture, from Sample Codes or any other upscaler."),
                io.Image.Input("small", tooltip="The small picture that it was made from; one, or one for each."),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="As large as before.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, image: Tensor, small: Tensor) -> io.NodeOutput:
        shown = to_image(agree(from_image(image), from_image(small)))
        return io.NodeOutput(shown, ui=comfy.saved_pictures(shown, cls))
