"""Nodes that load models."""

from ..core.images.io import open_image, to_tensor
from . import sockets
from .host import comfy
from .host.comfy import io
from .host.handles import open_bundle, open_vqgan
from .host.images import to_image

EXAMPLES = ["photograph.jpg", "drawing.png"]  # in assets, with their origin


class LoadBundle(io.ComfyNode):
    """A bundle from the model folders."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraLoadBundle",
            display_name="Load Tessera Model",
            category="Tessera",
            description="Loads a model file: a prior, the VQGAN it speaks the codes of, and what guides it. Files go "
            "into models/vq_transformer; emoji-edges comes with Tessera.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=comfy.model_files(comfy.PRIOR_FOLDER),
                    tooltip="A file of models/vq_transformer, or one that comes with Tessera. Press R after you put "
                    "new ones there.",
                )
            ],
            outputs=[
                sockets.Bundle.Output(display_name="model", tooltip="The whole model, for conditions and sampling."),
                sockets.VQGAN.Output(display_name="vqgan", tooltip="Its VQGAN alone, to encode and decode pictures."),
            ],
        )

    @classmethod
    def validate_inputs(cls, file: str | None) -> bool | str:
        return comfy.missing_model(comfy.PRIOR_FOLDER, file) or True

    @classmethod
    def fingerprint_inputs(cls, file: str) -> str:
        return comfy.model_fingerprint(comfy.PRIOR_FOLDER, file)

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        model = open_bundle(file)
        return io.NodeOutput(model, model.vqgan)


class LoadVQGAN(io.ComfyNode):
    """A VQGAN from the model folders."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraLoadVQGAN",
            display_name="Load VQGAN",
            category="Tessera/codes",
            description="Loads a VQGAN alone, to encode and decode pictures without a prior. Files go into "
            "models/vqgan; of a whole model the VQGAN is taken.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=comfy.model_files(comfy.VQGAN_FOLDER),
                    tooltip="A file of models/vqgan, or one that comes with Tessera. Press R after you put new ones "
                    "there.",
                )
            ],
            outputs=[sockets.VQGAN.Output(display_name="vqgan", tooltip="Encodes and decodes pictures.")],
        )

    @classmethod
    def validate_inputs(cls, file: str | None) -> bool | str:
        return comfy.missing_model(comfy.VQGAN_FOLDER, file) or True

    @classmethod
    def fingerprint_inputs(cls, file: str) -> str:
        return comfy.model_fingerprint(comfy.VQGAN_FOLDER, file)

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        return io.NodeOutput(open_vqgan(file))


class ExamplePicture(io.ComfyNode):
    """A picture that comes with the pack."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraExamplePicture",
            display_name="Example Picture",
            category="Tessera",
            description="A picture that comes with Tessera, so that the example workflows run at once. Put Load Image "
            "in its place for your own.",
            inputs=[
                io.Combo.Input(
                    "picture", options=EXAMPLES, tooltip="A photograph of a cup, or a line drawing of a strawberry."
                )
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The picture.")],
        )

    @classmethod
    def execute(cls, picture: str) -> io.NodeOutput:
        return io.NodeOutput(to_image(to_tensor(open_image(comfy.ASSETS / picture))))
