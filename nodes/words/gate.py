"""The gate, and the discriminator that may stand at it."""

import torch
from torch import Tensor

from ...core.canvas.canvas import Canvas
from ...core.images.io import to_pil, to_tensor
from ...core.images.sheet import labeled_tiles
from ...core.prepared import PreparedCondition
from ...core.sampling.settings import SamplingSettings
from .. import sockets
from ..host import comfy
from ..host.comfy import io
from ..host.gate import DiscriminatorHandle, Wishes, load_discriminator, report, try_until
from ..host.handles import BundleHandle
from ..host.images import from_image, to_image
from ..host.painting import ClipHandle
from ..host.sampling import SamplingRequest, WindowChoice
from ..inputs import DEFAULT_SETTINGS, canvas_inputs, clip_input, model_input, preview_input, seed_input
from .clip import CATEGORY


class LoadDiscriminator(io.ComfyNode):
    """A judge of realism from the model folders."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraLoadDiscriminator",
            display_name="Load Discriminator",
            category=CATEGORY,
            description="Loads the discriminator that a VQGAN was trained against: it tells patch by patch whether a "
            "picture looks real, whatever it shows. Files go into models/vqgan.",
            inputs=[
                io.Combo.Input(
                    "file", options=comfy.model_files(comfy.VQGAN_FOLDER),
                    tooltip="A discriminator.safetensors that train vqgan wrote beside the VQGAN. Press R after you "
                    "put new files there.",
                ),
            ],
            outputs=[
                sockets.Discriminator.Output(display_name="discriminator", tooltip="A judge for Try Until It Fits.")
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, file: str | None) -> bool | str:
        return comfy.missing_model(comfy.VQGAN_FOLDER, file) or True

    @classmethod
    def fingerprint_inputs(cls, file: str) -> str:
        return comfy.model_fingerprint(comfy.VQGAN_FOLDER, file)

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        return io.NodeOutput(load_discriminator(file))


class Gate(io.ComfyNode):
    """Again, until it resembles the request."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraGate",
            display_name="Try Until It Fits",
            category=CATEGORY,
            description="Paints with one seed after the other until a picture fits the words well enough, or the tries "
            "are used up; the best one comes out either way.",
            inputs=[
                model_input(),
                clip_input(),
                seed_input(),
                io.String.Input(
                    "text", default="a red flower", multiline=True,
                    tooltip="What it should show; with a reference picture or a discriminator it may be empty.",
                ),
                io.Float.Input(
                    "threshold", default=60.0, min=0.0, max=100.0, step=1.0,
                    tooltip="Good enough: better than so many of a hundred real drawings fit their own names, with "
                    "emoji-clip. With other CLIPs 100 times the cosine, of which 25 to 35 is good.",
                ),
                io.Int.Input("tries", default=16, min=1, max=1000, tooltip="At most so many pictures."),
                io.Int.Input("together", default=4, min=1, max=64, tooltip="How many are painted at a time."),
                io.Float.Input(
                    "likelihood", default=0.0, min=0.0, max=10.0, step=0.05,
                    tooltip="Weight of how likely the model itself finds the picture, beside 1 for the words.",
                ),
                preview_input(),
                *canvas_inputs(),
                io.Image.Input("reference", optional=True, tooltip="A picture that it should resemble, too."),
                io.Float.Input(
                    "agreement", default=0.0, min=0.0, max=10.0, step=0.05, optional=True,
                    tooltip="Weight of how well it agrees with the condition, edges or low resolution, beside 1 for "
                    "the words.",
                ),
                sockets.Discriminator.Input(
                    "discriminator", optional=True,
                    tooltip="From Load Discriminator: judges how real a picture looks, whatever it shows.",
                ),
                io.Float.Input(
                    "realism", default=1.0, min=0.0, max=10.0, step=0.05, optional=True,
                    tooltip="Weight of what the discriminator says, beside 1 for the words.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="picture", tooltip="The best one."),
                sockets.Canvas.Output(display_name="canvas", tooltip="Its canvas."),
                io.Image.Output(display_name="strip", tooltip="All that were tried, in order, with their scores."),
                io.String.Output(display_name="scores", tooltip="A line for each try: seed, scores, total."),
            ],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        model: BundleHandle,
        clip: ClipHandle,
        seed: int,
        text: str,
        threshold: float,
        tries: int,
        together: int,
        likelihood: float,
        preview_every: int,
        condition: PreparedCondition | None = None,
        canvas: Canvas | None = None,
        settings: SamplingSettings | None = None,
        sliding: WindowChoice | None = None,
        reference: Tensor | None = None,
        agreement: float | None = None,
        discriminator: DiscriminatorHandle | None = None,
        realism: float | None = None,
    ) -> io.NodeOutput:
        request = SamplingRequest(
            model=model, condition=condition, canvas=canvas, settings=settings or DEFAULT_SETTINGS, window=sliding,
            seed=seed,
        )  # fmt: skip
        wishes = Wishes(
            clip=clip, text=text, reference=None if reference is None else from_image(reference),
            discriminator=discriminator, realism=1.0 if realism is None else realism, likelihood=likelihood,
            agreement=agreement or 0.0,
        )  # fmt: skip
        tried, terms, images, painted = try_until(
            request, wishes, threshold, tries, min(together, tries), preview_every
        )
        best = torch.tensor([tried.best])
        labels = [f"{total:.0f}" + (" *" if i == tried.best else "") for i, total in enumerate(tried.totals.tolist())]
        strip = to_image(to_tensor(labeled_tiles(labels, to_pil(images))))
        picture, lines = to_image(images[best]), report(tried, terms, seed)
        return io.NodeOutput(picture, painted.pick(best), strip, lines, ui=comfy.finished_pictures(picture, cls))
