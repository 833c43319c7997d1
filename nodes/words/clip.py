"""Nodes that load a CLIP, make prompts for it, and judge pictures by it."""

from typing import Any, get_args

import torch
from torch import Tensor

from ...core.clip.layouts import Activation
from ...core.clip.prompts import Prompt, parse_prompts
from ...core.clip.scoring import TEMPLATES, classify, embed_classes
from ...core.images.io import to_pil, to_tensor
from ...core.images.sheet import labeled_sheet
from .. import sockets
from ..host import comfy
from ..host.comfy import io
from ..host.images import from_image, from_mask, to_image
from ..host.painting import ClipHandle, load_clip
from ..host.pairing import pair_clip
from ..inputs import clip_input, prompts_input

CATEGORY = "Tessera/words"
SAME_FILE = "in the same file"
SHOWN_CLASSES = 5


def region_input() -> io.Input:
    """Where a prompt counts."""
    return io.Mask.Input(
        "region", optional=True,
        tooltip="Where it counts: white fully, black not at all. Stretched over the picture; left open, everywhere.",
    )  # fmt: skip


class LoadCLIP(io.ComfyNode):
    """A CLIP from the model folders."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        files = comfy.model_files(comfy.CLIP_FOLDER)
        return io.Schema(
            node_id="TesseraLoadCLIP",
            display_name="Load CLIP",
            category=CATEGORY,
            description="Loads a CLIP, which tells how well words and pictures go together. emoji-clip comes with "
            "Tessera and knows emoji in English and Spanish; ViT-B/32, B/16, L/14 and larger ones go into "
            "models/clip_vision or models/text_encoders.",
            inputs=[
                io.Combo.Input(
                    "file", options=files,
                    tooltip="A CLIP with both its halves, or the half for pictures. Press R after you put new files "
                    "there.",
                ),
                io.Combo.Input(
                    "words_file", options=[SAME_FILE, *files], default=SAME_FILE,
                    tooltip="The half for words, with its projection, where it lies in a file of its own.",
                ),
                io.Combo.Input(
                    "activation", options=list(get_args(Activation)), default="auto",
                    tooltip="Of a released CLIP. Its file can't tell: auto goes by its name and shape. If scores are "
                    "poor, try the other one: quick_gelu for OpenAI's, gelu for LAION's.",
                ),
            ],
            outputs=[sockets.CLIP.Output(display_name="clip", tooltip="Judges pictures by words.")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, file: str | None) -> bool | str:
        return comfy.missing_model(comfy.CLIP_FOLDER, file) or True

    @classmethod
    def fingerprint_inputs(cls, file: str, words_file: str, activation: Activation) -> str:
        return f"{comfy.model_fingerprint(comfy.CLIP_FOLDER, file)} {words_file} {activation}"

    @classmethod
    def execute(cls, file: str, words_file: str, activation: Activation) -> io.NodeOutput:
        return io.NodeOutput(load_clip(file, None if words_file == SAME_FILE else words_file, activation))


class PairCLIP(io.ComfyNode):
    """ComfyUI's own halves of a CLIP."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraPairCLIP",
            display_name="Pair CLIP",
            category=CATEGORY,
            description="Makes one CLIP of the two halves that ComfyUI loads, if they belong together: one reads "
            "words, the other looks at pictures. A test of plain colors tells whether they do.",
            inputs=[
                io.Clip.Input(
                    "words", tooltip="From ComfyUI's Load CLIP, or a checkpoint of SDXL or SD3: its text encoder."
                ),
                io.ClipVision.Input("pictures", tooltip="From ComfyUI's Load CLIP Vision."),
            ],
            outputs=[sockets.CLIP.Output(display_name="clip", tooltip="Judges pictures by words.")],
        )

    @classmethod
    def execute(cls, words: Any, pictures: Any) -> io.NodeOutput:
        return io.NodeOutput(pair_clip(words, pictures))


class WordsPrompt(io.ComfyNode):
    """Words as prompts, for a region or all of a picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraWordsPrompt",
            display_name="Prompt by Words",
            category=CATEGORY,
            description="Words that a picture, or a region of it, should come near to. A vertical bar separates "
            "prompts, and a number after a colon is a weight: negative ones repel.",
            inputs=[
                io.String.Input(
                    "text", default="a red flower", multiline=True,
                    tooltip="One prompt, or several between vertical bars, with weights after colons.",
                ),
                region_input(),
                prompts_input(),
            ],
            outputs=[sockets.Prompts.Output(display_name="prompts", tooltip="For Paint by Words, and other prompts.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, text: str, region: Tensor | None = None, prompts: list[Prompt] | None = None) -> io.NodeOutput:
        made = [
            Prompt(text=one.text, weight=one.weight, stop=one.stop, region=region_of(region))
            for one in parse_prompts(text)
        ]
        return io.NodeOutput([*(prompts or []), *made])


class PicturePrompt(io.ComfyNode):
    """A picture as a prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraPicturePrompt",
            display_name="Prompt by Picture",
            category=CATEGORY,
            description="A picture that another one should come near to in what it shows, not in where it shows it.",
            inputs=[
                io.Image.Input("image", tooltip="The picture; of several, each is a prompt."),
                io.Float.Input(
                    "weight", default=1.0, min=-100.0, max=100.0, step=0.05,
                    tooltip="How strongly it pulls beside other prompts; negative ones repel.",
                ),
                region_input(),
                prompts_input(),
            ],
            outputs=[sockets.Prompts.Output(display_name="prompts", tooltip="For Paint by Words, and other prompts.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, image: Tensor, weight: float, region: Tensor | None = None, prompts: list[Prompt] | None = None
    ) -> io.NodeOutput:
        pictures = ((from_image(image) + 1) / 2).cpu().split(1)
        made = [Prompt(image=picture, weight=weight, region=region_of(region)) for picture in pictures]
        return io.NodeOutput([*(prompts or []), *made])


def region_of(mask: Tensor | None) -> Tensor | None:
    """The first mask, [H, W]."""
    return None if mask is None else from_mask(mask)[0]


class RankByWords(io.ComfyNode):
    """The pictures of a batch, best first."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraRankByWords",
            display_name="Rank by Words",
            category=CATEGORY,
            description="Scores pictures by how well they go with words, or with a reference picture, and puts the "
            "best ones first. A CLIP that guided a picture is no fair judge of it: rank with another one.",
            inputs=[
                clip_input(),
                io.Image.Input("image", tooltip="The pictures."),
                io.String.Input(
                    "text", default="a strawberry", multiline=True,
                    tooltip="What they should show; with a reference picture it may be empty.",
                ),
                io.Int.Input("keep", default=1, min=1, max=64, tooltip="How many of the best to hand on."),
                io.Image.Input(
                    "reference", optional=True, tooltip="A picture to resemble, beside the words or alone."
                ),
            ],
            outputs=[
                io.Image.Output(display_name="best", tooltip="The best pictures, best first."),
                io.String.Output(
                    display_name="scores",
                    tooltip="A line for each picture, best first: its number and its cosine, -1 to 1. 0.2 to 0.35 is a "
                    "good match of words for ViT-B/32.",
                ),
            ],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def execute(
        cls, clip: ClipHandle, image: Tensor, text: str, keep: int, reference: Tensor | None = None
    ) -> io.NodeOutput:
        pictures, scores = from_image(image), []
        if text.strip() or reference is None:
            scores.append(clip.score(pictures, text))
        if reference is not None:
            scores.append(clip.compare(pictures, from_image(reference)))
        total = torch.stack(scores).mean(0)
        order = total.argsort(descending=True, stable=True)
        lines = [f"{int(i) + 1}: {total[i]:.3f}" for i in order]
        best = image[order[:keep].to(image.device)]
        return io.NodeOutput(best, "\n".join(lines), ui=comfy.saved_pictures(best, cls))


class Classify(io.ComfyNode):
    """What a picture shows, among names."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraClassify",
            display_name="Classify by Words",
            category=CATEGORY,
            description="Tells which of some names fits a picture best, without having been trained for these names.",
            inputs=[
                clip_input(),
                io.Image.Input("image", tooltip="The pictures."),
                io.String.Input(
                    "names", default="cat\ndog\nstrawberry\ncar\nhouse", multiline=True,
                    tooltip="One name in each line, at least two.",
                ),
                io.String.Input(
                    "templates", default="\n".join(TEMPLATES), multiline=True,
                    tooltip="One sentence in each line, with {} for the name; the mean of all is compared. {} alone "
                    "suits emoji-clip.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="sheet", tooltip="Each picture under its likeliest name."),
                io.String.Output(
                    display_name="names", tooltip="A line for each picture: its likeliest names with their shares."
                ),
            ],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def execute(cls, clip: ClipHandle, image: Tensor, names: str, templates: str) -> io.NodeOutput:
        listed, pictures = lines_of(names), from_image(image)
        with clip.watched(len(pictures)) as model:
            found = classify(model, (pictures + 1) / 2, embed_classes(model, listed, lines_of(templates)))
        lines = [
            ", ".join(f"{listed[c]} {p:.0%}" for c, p in zip(row[:SHOWN_CLASSES], shares, strict=False))
            for row, shares in zip(found.classes.tolist(), found.probabilities.tolist(), strict=True)
        ]
        sheet = labeled_sheet([line.split(",")[0] for line in lines], to_pil(pictures))
        shown = to_image(to_tensor(sheet))
        return io.NodeOutput(shown, "\n".join(lines), ui=comfy.saved_pictures(shown, cls))


def lines_of(text: str) -> list[str]:
    """Lines that are not empty."""
    return [line.strip() for line in text.splitlines() if line.strip()]
