"""Nodes that ask for a picture by words, a style, lines and colors."""

from typing import get_args

from torch import Tensor

from ...core.conditions.edges import LineSource, extract_lines
from ...core.conditions.sketch import MAX_EMPHASIS, WORDS, Emphasis, Sketch, show_sketch, sketch_inputs
from ...core.images.resize import fit, resize, resize_lines
from ...core.prepared import check_kind, prepare_sketch
from .. import sockets
from ..conditions import CATEGORY
from ..host import comfy
from ..host.comfy import io
from ..host.handles import BundleHandle
from ..host.images import from_image, from_mask, to_image
from ..inputs import conditioned_model_input, fit_input

ANY = "any"


class SketchNode(io.ComfyNode):
    """Words, a style, lines and colors guide the picture, each of which may be left out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraSketch",
            display_name="Sketch",
            category=CATEGORY,
            description="Asks for a picture by words, a style, lines and colors, in any combination: for models that "
            "were trained on sketches. Guidance in Sampling Settings says how closely all of it is followed.",
            inputs=[
                conditioned_model_input(),
                io.String.Input(
                    "words",
                    default="",
                    tooltip=f"What it shows: up to {WORDS} names and keywords in English or Spanish, such as "
                    "strawberry, red. Empty leaves it to the model.",
                ),
                io.String.Input(
                    "style",
                    default=ANY,
                    tooltip=f"A style by the name it has in the model, or {ANY}. A name it does not know is answered "
                    "with those it knows.",
                ),
                io.Combo.Input(
                    "lines_are",
                    options=list(get_args(LineSource)),
                    default="photograph",
                    tooltip="photograph: edges are found in it. lines: bright on black, as edge detectors draw them. "
                    "drawing: dark strokes on a light ground.",
                ),
                fit_input(),
                io.Image.Input("lines", optional=True, tooltip="A picture that gives the lines."),
                io.Image.Input(
                    "colors",
                    optional=True,
                    tooltip="A picture that gives the colors, two cells by two: a few blobs do.",
                ),
                io.Mask.Input("colored", optional=True, tooltip="Where its colors count; without a mask everywhere."),
                sockets.Emphasis.Input(
                    "emphasis",
                    optional=True,
                    tooltip="From Emphasis: which part counts more where there is guidance; without it all alike.",
                ),
            ],
            outputs=[
                sockets.Condition.Output(display_name="condition", tooltip="Guides Sample Codes."),
                io.Image.Output(
                    display_name="seen",
                    tooltip="What the model sees: the lines, over the colors it is asked for; gray where it is free.",
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        model: BundleHandle,
        words: str,
        style: str,
        lines_are: str,
        size: str,
        lines: Tensor | None = None,
        colors: Tensor | None = None,
        colored: Tensor | None = None,
        emphasis: Emphasis | None = None,
    ) -> io.NodeOutput:
        check_kind(model.bundle, "sketch")
        sketch = Sketch(
            words=read_words(model, words),
            style=None if style.strip().lower() in ("", ANY) else model.bundle.vocabulary.style(style.strip()),
            lines=None if lines is None else bright_lines(lines, lines_are, size, model.side),
            colors=None if colors is None else fit(from_image(colors), size, model.side),
            colored=None if colored is None else fit(from_mask(colored).unsqueeze(1), size, model.side, resize_lines),
            emphasis=emphasis or Emphasis(),
        )
        if not sketch.words and sketch.style is None and lines is None and colors is None:
            comfy.say("Nothing is asked for: the model paints freely")
        condition = prepare_sketch(model.ready_for_control(*side_of(sketch, model.side)), sketch)
        seen = to_image(show_sketch(*sketch_inputs(sketch, *condition.canvas.size)))
        return io.NodeOutput(condition, seen, ui=comfy.saved_pictures(seen, cls))


class EmphasisNode(io.ComfyNode):
    """What guidance makes of each part of a sketch."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraEmphasis",
            display_name="Emphasis",
            category=CATEGORY,
            description="Which part of a sketch counts more, where guidance in Sampling Settings is above 1: 1 as far "
            "as they say, 0 not at all, 2 twice as far.",
            inputs=[emphasis_input(part) for part in ("words", "style", "lines", "colors")],
            outputs=[sockets.Emphasis.Output(display_name="emphasis", tooltip="For Sketch, one or several.")],
        )

    @classmethod
    def execute(cls, words: float, style: float, lines: float, colors: float) -> io.NodeOutput:
        return io.NodeOutput(Emphasis(words=words, style=style, lines=lines, colors=colors))


def emphasis_input(part: str) -> io.Float.Input:
    """How far guidance goes by a part."""
    return io.Float.Input(
        part,
        default=1.0,
        min=0.0,
        max=MAX_EMPHASIS,
        step=0.1,
        tooltip=f"How far guidance goes by the {part}: 1 as far as Sampling Settings say, 0 not at all.",
    )


def read_words(model: BundleHandle, text: str) -> tuple[int, ...]:
    """Numbers of the words of a text; what the model does not know is said on the node."""
    reading = model.bundle.vocabulary.read(text, WORDS)
    taken = [f"{given} is taken for {known}" for given, known in reading.replaced]
    if reading.unknown:
        taken.append(f"unknown to this model and left out: {', '.join(reading.unknown)}")
    if taken:
        comfy.say("; ".join(taken))
    return reading.words


def bright_lines(image: Tensor, source: LineSource, size: str, side: int) -> Tensor:
    """Lines [B, 1, H, W], 0..1, of a picture of the asked size."""
    picture = fit(from_image(image), size, side, resize_lines if source == "lines" else resize)
    return extract_lines(picture, source)[:, :1] / 2 + 0.5


def side_of(sketch: Sketch, side: int) -> tuple[int, int]:
    """Height and width in pixels of what is asked for; a square of `side` without lines and colors."""
    given = sketch.lines if sketch.lines is not None else sketch.colors
    return (side, side) if given is None else given.shape[-2:]
