"""Nodes between pictures and codes."""

from typing import Any, get_args

from torch import Tensor

from ..core.canvas.canvas import Canvas
from ..core.canvas.codec import (
    decode_latents,
    encode_canvas,
    encode_latents,
    lookup_codes,
    quantize_latents,
)
from ..core.canvas.masks import unknown_mask
from ..core.geometry import Wrap
from . import sockets
from .host import comfy
from .host.comfy import io
from .host.handles import VQGANHandle
from .host.images import from_image, from_latent, to_image, to_latent, to_mask
from .inputs import any_picture_input, vqgan_input

CATEGORY = "Tessera/codes"


class EncodeCanvas(io.ComfyNode):
    """A picture as a canvas."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraEncodeCanvas",
            display_name="Encode Picture",
            category=CATEGORY,
            description="Makes a canvas of a picture of any size, all cells known: to complete it, paint parts of it "
            "anew, or look at what the codes keep of it.",
            inputs=[vqgan_input(), any_picture_input()],
            outputs=[sockets.Canvas.Output(display_name="canvas", tooltip="Its codes.")],
        )

    @classmethod
    def execute(cls, vqgan: VQGANHandle, image: Tensor) -> io.NodeOutput:
        picture = from_image(image)
        with comfy.Watched(vqgan.ready(*picture.shape[-2:]).encoder, len(picture)):
            return io.NodeOutput(encode_canvas(vqgan.module, picture))


class DecodeCanvas(io.ComfyNode):
    """A canvas as a picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraDecodeCanvas",
            display_name="Decode Canvas",
            category=CATEGORY,
            description="Makes a picture of a canvas. Unknown cells are gray. A canvas that wraps becomes a picture "
            "that tiles. Any VQGAN with the same number of codes can decode it; another than its own gives another "
            "world.",
            inputs=[vqgan_input(), sockets.Canvas.Input("canvas", tooltip="The canvas to look at.")],
            outputs=[
                io.Image.Output(display_name="picture", tooltip="Trimmed to the size the canvas was made for."),
                io.Mask.Output(display_name="unknown", tooltip="White where cells are unknown."),
            ],
        )

    @classmethod
    def execute(cls, vqgan: VQGANHandle, canvas: Canvas) -> io.NodeOutput:
        picture = to_image(vqgan.decode(canvas))
        return io.NodeOutput(picture, to_mask(unknown_mask(canvas, vqgan.module.config.stride)))


class EncodeLatent(io.ComfyNode):
    """A picture as latents, before quantization."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraEncodeLatent",
            display_name="VQGAN Encode",
            category=CATEGORY,
            description="Encodes a picture without quantizing it, for ComfyUI's latent nodes: flip, composite, blend. "
            "These count 8 pixels a cell; count with the VQGAN's own stride, usually 16.",
            inputs=[vqgan_input(), any_picture_input()],
            outputs=[io.Latent.Output(display_name="latent", tooltip="For Quantize, VQGAN Decode and latent nodes.")],
        )

    @classmethod
    def execute(cls, vqgan: VQGANHandle, image: Tensor) -> io.NodeOutput:
        picture = from_image(image)
        with comfy.Watched(vqgan.ready(*picture.shape[-2:]).encoder, len(picture)):
            latents = encode_latents(vqgan.module, picture)
        return io.NodeOutput(to_latent(latents, picture.shape[-2:], vqgan.module.config.stride))


class Quantize(io.ComfyNode):
    """Latents to the nearest codes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraQuantize",
            display_name="Quantize",
            category=CATEGORY,
            description="Replaces each latent by the nearest code of the codebook: a canvas.",
            inputs=[vqgan_input(), io.Latent.Input("latent", tooltip="From VQGAN Encode with the same VQGAN.")],
            outputs=[
                sockets.Canvas.Output(display_name="canvas", tooltip="The numbers of the nearest codes."),
                io.Latent.Output(display_name="codes", tooltip="The codes themselves, for VQGAN Decode."),
            ],
        )

    @classmethod
    def execute(cls, vqgan: VQGANHandle, latent: dict[str, Any]) -> io.NodeOutput:
        latents, padding = from_latent(latent)
        height, width = (side * vqgan.module.config.stride for side in latents.shape[-2:])
        with comfy.Cancellable():
            canvas = quantize_latents(vqgan.ready(height, width), latents, padding)
        return io.NodeOutput(canvas, {**latent, "samples": lookup_codes(vqgan.module, canvas)})


class DecodeLatent(io.ComfyNode):
    """Latents or codes as a picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraDecodeLatent",
            display_name="VQGAN Decode",
            category=CATEGORY,
            description="Decodes latents as they are, quantized or not.",
            inputs=[
                vqgan_input(),
                io.Latent.Input("latent", tooltip="From VQGAN Encode or Quantize with the same VQGAN."),
                io.Combo.Input(
                    "wrap", options=list(get_args(Wrap)), default="none", optional=True,
                    tooltip="x: decodes so that left and right fit together. y: top and bottom. both: a tile.",
                ),
            ],
            outputs=[io.Image.Output(display_name="picture", tooltip="Trimmed to the size that was encoded.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, vqgan: VQGANHandle, latent: dict[str, Any], wrap: str | None = None) -> io.NodeOutput:
        (latents, padding), wrap = from_latent(latent), wrap or "none"
        model = vqgan.ready_to_decode(tuple(latents.shape[-2:]), wrap)
        with comfy.Watched(model.decoder, len(latents)):
            return io.NodeOutput(to_image(decode_latents(model, latents, padding, wrap)))
