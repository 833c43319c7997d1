"""Nodes that say which codes to paint with."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from ..core.canvas.atlas import code_counts, most_used
from ..core.canvas.bias import add_bias, listed_bias, palette_bias, parse_codes, share_with_neighbors
from ..core.canvas.codec import encode_canvas
from ..core.images.resize import fit
from ..core.sampling.settings import SamplingSettings
from . import sockets
from .host import comfy
from .host.comfy import io
from .host.handles import BundleHandle
from .host.images import from_image, to_image
from .inputs import DEFAULT_SETTINGS, model_input

CATEGORY = "Tessera/codes"


class PaletteOfPicture(io.ComfyNode):
    """Paint with the codes of a picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraPaletteOfPicture",
            display_name="Palette of Picture",
            category=CATEGORY,
            description="Lets the model paint with the codes that a picture uses: its colors and textures, wherever "
            "they fit. Works with every model; what guides the picture still does.",
            inputs=[
                model_input(),
                io.Image.Input("image", tooltip="The picture, or several, whose codes are the palette."),
                io.Float.Input(
                    "strength", default=1.0, min=0.0, max=3.0, step=0.05, display_mode=io.NumberDisplay.slider,
                    tooltip="How strongly to lean towards the codes that the picture uses often: 0 not at all, 1 "
                    "clearly, 3 hardly anything else.",
                ),
                io.Float.Input(
                    "neighbors", default=0.0, min=0.0, max=3.0, step=0.1,
                    tooltip="Counts codes that resemble those of the picture too: 0 none, 1 near ones, 3 distant ones.",
                ),
                io.Boolean.Input(
                    "only", default=False, tooltip="Never use a code that the picture (and its neighbors) lacks."
                ),
                settings_input(),
            ],
            outputs=[
                sockets.Sampling.Output(display_name="settings", tooltip="For Sample Codes."),
                io.Image.Output(display_name="palette", tooltip="What its codes look like, the most used first."),
            ],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        model: BundleHandle,
        image: Tensor,
        strength: float,
        neighbors: float,
        only: bool,
        settings: SamplingSettings | None = None,
    ) -> io.NodeOutput:
        picture = fit(from_image(image), "whole picture", model.side)
        vqgan = model.vqgan.ready(*picture.shape[-2:])
        with comfy.Watched(vqgan.encoder, len(picture)):
            used = code_counts(encode_canvas(vqgan, picture), vqgan.config.codebook_size)
        counts = share_with_neighbors(used, vqgan.codebook.codes.cpu(), neighbors)
        shown = to_image(most_used(vqgan, counts))
        comfy.say(f"{int((used > 0).sum())} of {len(used)} codes, {int((counts > 0).sum())} with neighbors")
        return io.NodeOutput(
            with_bias(settings, palette_bias(counts, strength, only)), shown, ui=comfy.saved_pictures(shown, cls)
        )


class BanAndBoost(io.ComfyNode):
    """Codes never to use, and codes to use more."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraBanAndBoost",
            display_name="Ban and Boost Codes",
            category=CATEGORY,
            description="Names codes that the model must not paint with, and others that it is to use more. Codebook "
            "Atlas in the order of numbers shows which is which.",
            inputs=[
                model_input(),
                io.String.Input("ban", default="", tooltip="Codes never to use, as in 3, 17, 40-60."),
                io.String.Input("boost", default="", tooltip="Codes to use more, as in 3, 17, 40-60."),
                io.Float.Input(
                    "strength", default=2.0, min=-10.0, max=10.0, step=0.1, display_mode=io.NumberDisplay.slider,
                    tooltip="How much more: 2 makes boosted codes seven times as likely, below 0 makes them rarer.",
                ),
                settings_input(),
            ],
            outputs=[sockets.Sampling.Output(display_name="settings", tooltip="For Sample Codes.")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, ban: str | None, boost: str | None) -> bool | str:
        try:
            return bool([parse_codes(text) for text in (ban, boost) if text is not None]) or True
        except ValueError as error:
            return str(error)

    @classmethod
    def execute(
        cls,
        model: BundleHandle,
        ban: str,
        boost: str,
        strength: float,
        settings: SamplingSettings | None = None,
    ) -> io.NodeOutput:
        codes = model.bundle.vqgan.config.codebook_size
        return io.NodeOutput(with_bias(settings, listed_bias(codes, parse_codes(ban), parse_codes(boost), strength)))


def settings_input() -> io.Input:
    """The settings that a bias is added to."""
    return sockets.Sampling.Input(
        "settings", optional=True, tooltip="Everything else is taken from these settings; palettes and lists add up."
    )


def with_bias(settings: SamplingSettings | None, bias: Tensor) -> SamplingSettings:
    """Settings with a bias beside the one they have."""
    settings = settings or DEFAULT_SETTINGS
    return dataclasses.replace(settings, bias=add_bias(settings.bias, bias))
