"""Nodes that guide a picture."""

from typing import get_args

import torch
from torch import Tensor

from ..core.conditions.edges import DEFAULT_EDGES, EdgeSettings, LineSource, extract_lines
from ..core.conditions.maps import check_depth, invert, labels_from_image
from ..core.conditions.sketch import WORDS
from ..core.images.resize import fit, resize, resize_labels, resize_lines
from ..core.prepared import (
    PreparedCondition,
    prepare_image_condition,
    prepare_label_condition,
    prepare_words_condition,
    show_condition,
)
from . import sockets
from .host import comfy
from .host.comfy import io
from .host.handles import BundleHandle
from .host.images import from_image, to_image
from .inputs import condition_outputs, conditioned_model_input, fit_input

CATEGORY = "Tessera/conditions"
MAX_THRESHOLD = 1000.0  # of a gradient


class Edges(io.ComfyNode):
    """Lines guide the picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraEdges",
            display_name="Edges",
            category=CATEGORY,
            description="Lets lines guide the new picture: the edges of a photograph, a drawing, or the output of "
            "any edge detector (Canny, HED, scribble ...).",
            inputs=[
                conditioned_model_input(),
                io.Image.Input("image", tooltip="The picture that gives the lines."),
                io.Combo.Input(
                    "picture_is",
                    options=list(get_args(LineSource)),
                    default="photograph",
                    tooltip="photograph: edges are found in it. lines: bright on black, as edge detectors draw them. "
                    "drawing: dark strokes on a light ground.",
                ),
                fit_input(),
                io.Float.Input(
                    "low", default=float(DEFAULT_EDGES.low), min=0.0, max=MAX_THRESHOLD, step=5.0,
                    tooltip="Photographs only: an edge is followed as long as the gradient is above this, 0 to 1000. "
                    "Lower gives longer lines.",
                ),
                io.Float.Input(
                    "high", default=float(DEFAULT_EDGES.high), min=0.0, max=MAX_THRESHOLD, step=5.0,
                    tooltip="Photographs only: an edge begins where the gradient is above this, 0 to 1000. "
                    "Lower gives more lines.",
                ),
                io.Float.Input(
                    "blur", default=DEFAULT_EDGES.blur, min=0.0, max=20.0, step=0.1,
                    tooltip="Photographs only: blurred by so many pixels before edges are looked for. Higher leaves "
                    "out grain and texture.",
                ),
            ],
            outputs=[
                *condition_outputs(),
                io.Image.Output(display_name="lines", tooltip="The lines before quantization, white on black."),
            ],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, low: float | None, high: float | None) -> bool | str:
        return check_thresholds(low, high) or True

    @classmethod
    def execute(
        cls, model: BundleHandle, image: Tensor, picture_is: str, size: str, low: float, high: float, blur: float
    ) -> io.NodeOutput:
        picture = fit(from_image(image), size, model.side, resize_lines if picture_is == "lines" else resize)
        lines = extract_lines(picture, picture_is, EdgeSettings(low=low, high=high, blur=blur))
        if not (lines > lines.min()).any():
            comfy.say(
                "No lines found: the model is guided by an empty picture; lower low and high, or check picture_is"
            )
        condition, sees = prepare_and_show(model, "edges", lines)
        return io.NodeOutput(condition, sees, to_image(lines), ui=comfy.saved_pictures(sees, cls))


class Depth(io.ComfyNode):
    """A depth map guides the picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraDepth",
            display_name="Depth",
            category=CATEGORY,
            description="Lets a depth map guide the new picture, as depth estimators draw it: near is bright.",
            inputs=[
                conditioned_model_input(),
                io.Image.Input("image", tooltip="The depth map; stretched from black to white."),
                fit_input(),
                io.Boolean.Input(
                    "near_is_bright", default=True, tooltip="Turn off for maps that are darker where things are near."
                ),
            ],
            outputs=condition_outputs(),
            is_output_node=True,
        )

    @classmethod
    def execute(cls, model: BundleHandle, image: Tensor, size: str, near_is_bright: bool) -> io.NodeOutput:
        depth = fit(check_depth(from_image(image)), size, model.side)
        condition, sees = prepare_and_show(model, "depth", depth if near_is_bright else invert(depth))
        return io.NodeOutput(condition, sees, ui=comfy.saved_pictures(sees, cls))


class Segmentation(io.ComfyNode):
    """A label map guides the picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraSegmentation",
            display_name="Segmentation",
            category=CATEGORY,
            description="Lets a map of labels (sky, water, tree ...) guide the new picture. The labels are those of "
            "the dataset that the model was trained on.",
            inputs=[
                conditioned_model_input(),
                io.Image.Input("image", tooltip="The label map. Without a palette its gray levels are the labels."),
                fit_input(),
                io.Image.Input(
                    "palette", optional=True,
                    tooltip="The labels' colours, a pixel for each label, row by row from the top left. Each pixel of "
                    "the map gets the label whose colour is nearest.",
                ),
                io.Int.Input(
                    "labels_start_at", default=0, min=0, max=1, optional=True,
                    tooltip="The label that black stands for, without a palette. 1 for models that keep 0 for what is "
                    "unlabelled, such as the COCO-Stuff model of 183 labels; 255 then becomes 0.",
                ),
            ],
            outputs=condition_outputs(),
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        model: BundleHandle,
        image: Tensor,
        size: str,
        palette: Tensor | None = None,
        labels_start_at: int | None = None,
    ) -> io.NodeOutput:
        picture = fit(from_image(image), size, model.side, resize_labels)
        colors = None if palette is None else from_image(palette)
        labels = labels_from_image(picture, colors, model.bundle.condition_config.labels, labels_start_at or 0)
        condition, sees = prepare_and_show(model, "segmentation", labels)
        return io.NodeOutput(condition, sees, ui=comfy.saved_pictures(sees, cls))


class LowResolution(io.ComfyNode):
    """A small picture guides a larger one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraLowResolution",
            display_name="Low Resolution",
            category=CATEGORY,
            description="Lets a small picture guide a larger one, as many times larger as the model was trained for.",
            inputs=[
                conditioned_model_input(),
                io.Image.Input(
                    "image",
                    tooltip="The small picture; a large one is made small first, unless size says original size.",
                ),
                fit_input(),
            ],
            outputs=condition_outputs(),
            is_output_node=True,
        )

    @classmethod
    def execute(cls, model: BundleHandle, image: Tensor, size: str) -> io.NodeOutput:
        small = fit(from_image(image), size, model.side // max(1, model.bundle.condition_config.factor))
        condition, sees = prepare_and_show(model, "low-resolution", small)
        return io.NodeOutput(condition, sees, ui=comfy.saved_pictures(sees, cls))


class ClassLabel(io.ComfyNode):
    """A class guides the picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraClassLabel",
            display_name="Class Label",
            category=CATEGORY,
            description="Asks for a picture of a class, for models trained on labelled pictures such as ImageNet.",
            inputs=[
                conditioned_model_input(),
                io.Int.Input(
                    "label", default=0, min=0, max=1_000_000,
                    tooltip="Number of the class in the dataset that the model was trained on; ImageNet has 0 to 999.",
                ),
            ],
            outputs=[sockets.Condition.Output(display_name="condition", tooltip="Guides Sample Codes.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model: BundleHandle, label: int) -> io.NodeOutput:
        return io.NodeOutput(prepare_label_condition(model.bundle, torch.tensor([label])))


class Caption(io.ComfyNode):
    """Words that the model learned guide the picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraCaption",
            display_name="Caption",
            category=CATEGORY,
            description="Asks for a picture by words, for models trained on your own captioned pictures. It knows the "
            "words of those captions, and of a caption the first eight that it knows.",
            inputs=[
                conditioned_model_input(),
                io.String.Input(
                    "caption",
                    default="a red flower",
                    tooltip="Words in any order. One that is not known is replaced by the nearest spelling that is, or "
                    "left out, and the node says so.",
                ),
            ],
            outputs=[sockets.Condition.Output(display_name="condition", tooltip="Guides Sample Codes.")],
        )

    @classmethod
    def execute(cls, model: BundleHandle, caption: str) -> io.NodeOutput:
        condition = prepare_words_condition(model.bundle, caption)
        reading = model.bundle.vocabulary.read(caption, WORDS)
        changed = [f"{given} as {taken}" for given, taken in reading.replaced]
        if changed or reading.unknown:
            comfy.say(
                f"Read {', '.join(changed) or 'all other words'}; not known: {', '.join(reading.unknown) or 'none'}"
            )
        return io.NodeOutput(condition)


def check_thresholds(low: float | None, high: float | None) -> str | None:
    """What to say about thresholds that can't be, before anything runs; None of them may come over a wire."""
    for name, value in (("low", low), ("high", high)):
        if value is not None and not 0 <= value <= MAX_THRESHOLD:
            return f"{name} is {value:g}; choose 0 to {MAX_THRESHOLD:g}"
    if low is not None and high is not None and low > high:
        return f"low is {low:g} and high {high:g}; edges begin at high and go on down to low, so choose low below high"
    return None


def prepare_and_show(model: BundleHandle, kind: str, pictures: Tensor) -> tuple[PreparedCondition, Tensor]:
    """The condition made of condition pictures, and what the model sees of them as an IMAGE."""
    height, width = (side * max(1, model.bundle.condition_config.factor) for side in pictures.shape[-2:])
    if max(height, width) > model.side:
        cells = -(-height // model.stride) * -(-width // model.stride)
        comfy.say(f"{width}x{height} pixels will be {cells} cells; Plan Run tells beforehand how long they take")
    bundle = model.ready_for_condition(*pictures.shape[-2:])
    if bundle.condition_config.unconditional:
        bundle.condition(None)  # encoded once, and before the bar counts
    first, second = comfy.Progress().shared(2)
    with comfy.Watched(bundle.condition_vqgan.encoder, len(pictures), first):
        condition = prepare_image_condition(bundle, kind, pictures)
    with comfy.Watched(bundle.condition_vqgan.decoder, len(pictures), second):
        return condition, to_image(show_condition(model.bundle, condition))
