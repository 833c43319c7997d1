"""Nodes that load models, those of others among them, and fetch these when asked to."""

from typing import get_args

from ..core.images.io import open_image, to_tensor
from ..downloads.catalogue import read_catalogue
from . import sockets
from .host import comfy
from .host.comfy import io, ui
from .host.handles import Precision, open_bundle, open_vqgan
from .host.images import to_image
from .host.published import open_published

EXAMPLES = ["photograph.jpg", "drawing.png", "blobs.png"]  # in assets, with their origin
CATALOGUE = read_catalogue()
BESIDE = " - "  # between a name and what the model paints; the name alone counts


class LoadBundle(io.ComfyNode):
    """A bundle from the model folders."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraLoadBundle",
            display_name="Load Tessera Model",
            category="Tessera",
            description="Loads a model file: a prior, the VQGAN it speaks the codes of, and what guides it. Files go "
            "into models/vq_transformer; emoji-sketch comes with Tessera.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=comfy.model_files(comfy.PRIOR_FOLDER),
                    tooltip="A file of models/vq_transformer, or one that comes with Tessera. Press R after you put "
                    "new ones there.",
                ),
                io.Combo.Input(
                    "precision",
                    options=list(get_args(Precision)),
                    default="auto",
                    optional=True,
                    tooltip="Of the prior's weights. bf16 takes half the memory and is faster on most cards; codes "
                    "differ a little. auto: large newer models as ComfyUI keeps diffusion models, others float32.",
                ),
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
    def fingerprint_inputs(cls, file: str, precision: Precision | None = None) -> str:
        return f"{comfy.model_fingerprint(comfy.PRIOR_FOLDER, file)} {precision or 'auto'}"

    @classmethod
    def execute(cls, file: str, precision: Precision | None = None) -> io.NodeOutput:
        model = open_bundle(file, precision or "auto")
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


class DownloadModel(io.ComfyNode):
    """A published model: said what it is, fetched, opened."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraDownloadModel",
            display_name="Download Model",
            category="Tessera",
            description="Opens a model that others have published, and fetches it first if you ask for that. Without "
            "fetch it only says how large it is, under which licence, and where it comes from.",
            inputs=[
                io.Combo.Input(
                    "model", options=[f"{name}{BESIDE}{one.about}" for name, one in CATALOGUE.items()],
                    default=f"sflckr{BESIDE}{CATALOGUE['sflckr'].about}",
                    tooltip="A published model: transformers paint, VQGANs encode and decode pictures only.",
                ),
                io.Boolean.Input(
                    "fetch", default=False,
                    tooltip="Fetches it into the model folder if it is not there; gigabytes for most. Off: nothing is "
                    "fetched.",
                ),
            ],
            outputs=[
                sockets.Bundle.Output(display_name="model", tooltip="The model; nothing where it is a VQGAN alone."),
                sockets.VQGAN.Output(display_name="vqgan", tooltip="Its VQGAN, to encode and decode pictures."),
            ],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, model: str | None) -> bool | str:
        if model is None or model.split(BESIDE)[0] in CATALOGUE:
            return True
        return f"{model!r} is not a published model that is known here; choose one from the list"

    @classmethod
    def execute(cls, model: str, fetch: bool) -> io.NodeOutput:
        published = CATALOGUE[model.split(BESIDE)[0]]
        comfy.say(published.summary)
        opened = open_published(published, fetch)
        return io.NodeOutput(opened.model, opened.vqgan, ui=ui.PreviewText(f"{opened.state}\n{published.summary}"))
