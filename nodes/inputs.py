"""Inputs and outputs that several nodes have, each said once."""

from typing import Literal, get_args

from ..core.images.resize import Fit
from ..core.sampling.settings import SamplingSettings
from . import sockets
from .host.comfy import io

MAX_SEED = 2**53 - 1  # the front end counts in doubles
DEFAULT_SETTINGS = SamplingSettings()  # the widgets' defaults
Do = Literal["look", "train", "stop"]  # what a node does to a training run


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
            tooltip="What guides the picture, such as Sketch. Left open, nothing does: the model that comes with "
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


def name_input(default: str, folder: str) -> io.Input:
    return io.String.Input(
        "name", default=default,
        tooltip=f"Of the run and of the file in {folder} that it ends in. All that it writes is in output/training, in "
        "a folder of this name.",
    )  # fmt: skip


def do_input() -> io.Input:
    return io.Combo.Input(
        "do", options=list(get_args(Do)), default="look",
        tooltip="look: say how the run is. train: start it, or go on where it stopped, unless it runs. stop: let it "
        "finish its step, save and end.",
    )  # fmt: skip


def folder_input() -> io.Input:
    return io.String.Input(
        "pictures", default="",
        tooltip="The folder with your pictures, sub-folders too: a whole path, or one below ComfyUI's input folder.",
    )  # fmt: skip


def training_size_inputs() -> list[io.Input]:
    """What every training run is asked for."""
    return [
        io.Int.Input(
            "size", default=256, min=16, max=2048, step=16,
            tooltip="Pixels a side of the squares that are cut of your pictures; the model then paints such squares.",
        ),
        io.Int.Input(
            "batch", default=8, min=1, max=1024,
            tooltip="Pictures in a step. Fewer where memory does not suffice; the log says so.",
        ),
        io.Int.Input(
            "steps", default=10_000, min=1, max=100_000_000,
            tooltip="Updates of the weights. More later: a finished run goes on to a higher number.",
        ),
    ]  # fmt: skip


def more_input(example: str) -> io.Input:
    return io.String.Input(
        "more", default="", multiline=True,
        tooltip=f"Further settings of the training program, one a line, such as {example}; docs/training.md tells all.",
    )  # fmt: skip
