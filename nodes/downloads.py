"""A node that fetches published models, when it is asked to."""

from ..downloads.catalogue import read_catalogue
from . import sockets
from .host import comfy
from .host.comfy import io, ui
from .host.published import open_published

CATALOGUE = read_catalogue()
BESIDE = " - "  # between a name and what the model paints; the name alone counts


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
