"""Nodes that keep to the picture that was given: painted parts go back into it, a larger one has its colors."""

from torch import Tensor

from ..core.images.agreement import agree
from ..core.images.put_back import MAX_FEATHER, Region, cut_out, fit_mask, put_back, region_around
from . import sockets
from .host import comfy
from .host.comfy import io
from .host.handles import BundleHandle
from .host.images import channels_first, channels_last, from_image, from_mask, to_image, to_mask
from .inputs import model_input

CATEGORY = "Tessera/canvas"


class CropAroundMask(io.ComfyNode):
    """The painted part of a large picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraCropAroundMask",
            display_name="Crop Around Mask",
            category=CATEGORY,
            description="Cuts the painted part out of a large picture, pixel by pixel and as large as the model paints "
            "at once, so that a small change in a photograph is made in full detail. Put Back lays it in again.",
            inputs=[
                model_input("The model that is to paint, from Load Tessera Model."),
                io.Image.Input("image", tooltip="The large picture."),
                io.Mask.Input(
                    "mask", tooltip="White is what is to be painted. Laid over the picture whatever its size."
                ),
                io.Int.Input(
                    "margin",
                    default=32,
                    min=0,
                    max=2048,
                    tooltip="Pixels around the painted ones that are cut out, too.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The part, its pixels unchanged."),
                io.Mask.Output(display_name="mask", tooltip="The mask of this part."),
                sockets.Region.Output(display_name="region", tooltip="Where the part was, for Put Back."),
            ],
        )

    @classmethod
    def execute(cls, model: BundleHandle, image: Tensor, mask: Tensor, margin: int) -> io.NodeOutput:
        picture, painted = channels_first(image), from_mask(mask)
        height, width = picture.shape[-2:]
        region = region_around(painted, height, width, model.side, margin)
        part = cut_out(fit_mask(painted, height, width), region)
        return io.NodeOutput(channels_last(cut_out(picture, region)), to_mask(part), region)


class PutBack(io.ComfyNode):
    """The photograph as it was, but for what was painted."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraPutBack",
            display_name="Put Back",
            category=CATEGORY,
            description="Lays what was painted over the original picture under a mask with soft borders. All other "
            "pixels stay as they were, to the bit.",
            inputs=[
                io.Image.Input("painted", tooltip="From Sample Codes; one or several."),
                io.Image.Input("original", tooltip="The picture before."),
                io.Mask.Input("mask", tooltip="White is taken from the painted picture, gray is a mix of both."),
                io.Int.Input(
                    "feather", default=12, min=0, max=MAX_FEATHER,
                    tooltip="Pixels over which the painted part fades out beyond the mask; 0 for a hard border.",
                ),
                sockets.Region.Input(
                    "region", optional=True,
                    tooltip="From Crop Around Mask, if only a part was painted; original and mask are the whole ones.",
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="As large as the original.")],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def execute(
        cls, painted: Tensor, original: Tensor, mask: Tensor, feather: int, region: Region | None = None
    ) -> io.NodeOutput:
        whole = put_back(channels_first(painted), channels_first(original), from_mask(mask), feather, region)
        shown = channels_last(whole.clamp(0, 1))
        return io.NodeOutput(shown, ui=comfy.saved_pictures(shown, cls))


class AgreeWithSmallPicture(io.ComfyNode):
    """The small picture's colors, the large picture's detail."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraAgreeWithSmallPicture",
            display_name="Agree with Small Picture",
            category=CATEGORY,
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
