"""Inputs and outputs that several nodes have, each said once."""

from typing import get_args

from ..core.images.resize import Fit
from ..core.sampling.settings import SamplingSettings
from . import sockets
from .host.comfy import io

MAX_SEED = 2**53 - 1  # the front end counts in doubles
DEFAULT_SETTINGS = SamplingSettings()  # the widgets' defaults


def model_input(tooltip: str = "The model that paints, from Load Tessera Model.") -> io.Input:
    return sockets.Bundle.Input("model", tooltip=tooltip)


def conditioned_model_input() -> io.Input:
    return model_input("The model to guide, from Load Tessera Model.")


def vqgan_input() -> io.Input:
    return sockets.VQGAN.Input("vqgan", tooltip="From Load Tessera Model or Load VQGAN.")


def seed_input() -> io.Input:
    return io.Int.Input(
        "seed", default=0, min=0, max=MAX_SEED, control_after_generate=True,
        tooltip="The same seed and settings make the same picture. Picture 2 of several has the next seed, and so on.",
    )  # fmt: skip


def pictures_input() -> io.Input:
    return io.Int.Input(
        "pictures", default=1, min=1, max=64,
        tooltip="How many pictures to make of each condition, side by side. Several take little longer than one.",
    )  # fmt: skip


def preview_input() -> io.Input:
    return io.Int.Input(
        "preview_every", default=8, min=0, max=100_000,
        tooltip="Show the picture after each so many cells; 0 for never. Showing takes at most a fifth of the time.",
    )  # fmt: skip


def canvas_inputs() -> list[io.Input]:
    """What a run can be given beside the model."""
    return [
        sockets.Condition.Input(
            "condition", optional=True,
            tooltip="What guides the picture, such as Edges. Left open, nothing does: the model that comes with "
            "Tessera then paints what it likes, as do models that are guided by nothing or by coordinates.",
        ),
        sockets.Canvas.Input(
            "canvas", optional=True,
            tooltip="What is known already: its unknown cells are painted. Left open, all is new, as large as the "
            "condition.",
        ),
        sockets.Sampling.Input(
            "settings", optional=True,
            tooltip="From Sampling Settings; left open, the model paints as it was trained.",
        ),
        sockets.Sliding.Input(
            "sliding", optional=True,
            tooltip="From Sliding Window, for canvases larger than the model's window, panoramas and tiles; left open, "
            "the window moves cell by cell.",
        ),
    ]  # fmt: skip


def fit_input() -> io.Input:
    """How a picture is brought to the size of the one to be made."""
    return io.Combo.Input(
        "size",
        options=list(get_args(Fit)),
        default="square",
        tooltip="Size of the new picture. square: the middle of yours, as large as the model was trained on. whole "
        "picture: the shorter side as large as that. original size: as yours is; takes longest.",
    )


def condition_outputs() -> list[io.Output]:
    """What every condition made of a picture gives."""
    return [
        sockets.Condition.Output(display_name="condition", tooltip="Guides Sample Codes."),
        io.Image.Output(
            display_name="seen",
            tooltip="What the model sees: the condition picture after its own VQGAN made codes of it. What is lost "
            "here can't guide anything.",
        ),
    ]


def clip_input() -> io.Input:
    return sockets.CLIP.Input("clip", tooltip="From Load CLIP.")


def prompts_input() -> io.Input:
    return sockets.Prompts.Input("prompts", optional=True, tooltip="Further prompts, which are added to these.")


def paint_settings_input() -> io.Input:
    return sockets.Painting.Input("settings", optional=True, tooltip="From Paint Settings.")


def steps_input(default: int, tooltip: str) -> io.Input:
    return io.Int.Input("steps", default=default, min=1, max=10_000, tooltip=tooltip)


def paint_size_inputs(tooltip: str) -> list[io.Input]:
    """Width and height of what is painted by words, which is kept in memory whole."""
    sides = ("width", "height")
    return [io.Int.Input(side, default=256, min=32, max=4096, step=16, tooltip=tooltip) for side in sides]


def size_inputs() -> list[io.Input]:
    """Width and height of a canvas."""
    sides = ("width", "height")
    return [
        io.Int.Input(side, default=256, min=8, max=16384, step=8, tooltip="Of the new picture, pixels.")
        for side in sides
    ]


def any_picture_input() -> io.Input:
    return io.Image.Input("image", tooltip="The picture; any size, several at once.")


def filename_prefix_input(default: str) -> io.Input:
    return io.String.Input("filename_prefix", default=default, tooltip="Folder and start of the name.")
