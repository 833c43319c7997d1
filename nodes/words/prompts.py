"""Nodes for prompts, and for images that control them."""

from torch import Tensor

from ...core.conditions.text import TextFeatures
from ...core.images.resize import fit
from ...core.prepared import PreparedCondition, prepare_control, prepare_text_condition
from .. import sockets
from ..conditions import CATEGORY
from ..host import comfy
from ..host.comfy import io, ui
from ..host.encoders import encode_prompt, missing_encoder, text_encoders
from ..host.handles import BundleHandle
from ..host.images import from_image, from_mask
from ..inputs import conditioned_model_input, filename_prefix_input, fit_input

SUFFIX = ".prompt.safetensors"


class EncodePrompt(io.ComfyNode):
    """A text to features."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraEncodePrompt",
            display_name="Encode Prompt",
            category=CATEGORY,
            description="Reads a prompt with FLAN-T5-XL, for models that follow prompts. The encoder leaves memory "
            "before painting begins; Save Prompt keeps what it made.",
            inputs=[
                io.Combo.Input(
                    "encoder",
                    options=text_encoders(),
                    tooltip="A folder of models/text_encoders that holds FLAN-T5-XL as Hugging Face stores it. Press R "
                    "after you put one there.",
                ),
                io.String.Input(
                    "prompt",
                    default="a red fox in the snow",
                    multiline=True,
                    tooltip="What the picture shows, up to about 100 words. Upper case makes no difference.",
                ),
            ],
            outputs=[sockets.Text.Output(display_name="text", tooltip="The prompt as the models read it.")],
        )

    @classmethod
    def validate_inputs(cls, encoder: str | None) -> bool | str:
        return missing_encoder(encoder) or True

    @classmethod
    def execute(cls, encoder: str, prompt: str) -> io.NodeOutput:
        return io.NodeOutput(encode_prompt(encoder, prompt))


class Prompt(io.ComfyNode):
    """A text guides the picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraPrompt",
            display_name="Prompt",
            category=CATEGORY,
            description="Lets a prompt guide the picture, for models that follow prompts: LlamaGen's text models and "
            "ControlAR. Guidance in Sampling Settings says how closely; 4 to 8 is usual.",
            inputs=[
                conditioned_model_input(),
                sockets.Text.Input("text", tooltip="From Encode Prompt or Load Prompt."),
            ],
            outputs=[sockets.Condition.Output(display_name="condition", tooltip="Guides Sample Codes.")],
        )

    @classmethod
    def execute(cls, model: BundleHandle, text: TextFeatures) -> io.NodeOutput:
        return io.NodeOutput(prepare_text_condition(model.bundle, text))


class SavePrompt(io.ComfyNode):
    """Features to a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraSavePrompt",
            display_name="Save Prompt",
            category=CATEGORY,
            description="Writes an encoded prompt to the output folder, up to half a megabyte, so that it can be used "
            "without the text encoder, on another machine too.",
            inputs=[
                sockets.Text.Input("text", tooltip="From Encode Prompt."),
                filename_prefix_input("tessera/prompt"),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, text: TextFeatures, filename_prefix: str) -> io.NodeOutput:
        path = comfy.new_output_file(filename_prefix, SUFFIX)
        text.save(path)
        return io.NodeOutput(ui=ui.PreviewText(path.name))


class LoadPrompt(io.ComfyNode):
    """Features from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraLoadPrompt",
            display_name="Load Prompt",
            category=CATEGORY,
            description="Reads a prompt that Save Prompt wrote; no text encoder is needed.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=comfy.files_between(SUFFIX) or ["no prompt saved yet"],
                    tooltip="Prompts in the input and output folders. Press R after you saved one.",
                )
            ],
            outputs=[sockets.Text.Output(display_name="text", tooltip="The prompt as it was saved.")],
        )

    @classmethod
    def validate_inputs(cls, file: str | None) -> bool | str:
        return comfy.missing_file(file, SUFFIX) or True

    @classmethod
    def fingerprint_inputs(cls, file: str) -> int:
        return comfy.file_between(file, SUFFIX).stat().st_mtime_ns

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        return io.NodeOutput(TextFeatures.load(comfy.file_between(file, SUFFIX)))


class Control(io.ComfyNode):
    """An image of edges, depth or segments controls a prompted picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraControl",
            display_name="Control",
            category=CATEGORY,
            description="Lets an image of edges, depth or segments control a prompted picture, for ControlAR's models. "
            "Takes what preprocessor nodes make as it is: canny, HED, line art, depth or segments, as the model "
            "learned.",
            inputs=[
                conditioned_model_input(),
                sockets.Condition.Input("condition", tooltip="From Prompt."),
                io.Image.Input(
                    "image",
                    tooltip="What a preprocessor made: lines bright on black, near is bright, or segments in colors.",
                ),
                fit_input(),
                io.Float.Input(
                    "strength", default=1.0, min=0.0, max=1.0, step=0.05,
                    tooltip="How closely the image is followed: 0 not at all, 1 as the model learned; ControlAR's base "
                    "files are used with 0.6.",
                ),
                io.Mask.Input(
                    "strength_map",
                    optional=True,
                    tooltip="Where to follow it: strength in white, nothing in black, and anything between.",
                ),
            ],
            outputs=[sockets.Condition.Output(display_name="condition", tooltip="Guides Sample Codes.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        model: BundleHandle,
        condition: PreparedCondition,
        image: Tensor,
        size: str,
        strength: float,
        strength_map: Tensor | None = None,
    ) -> io.NodeOutput:
        images = fit(from_image(image), size, model.side)
        where = None if strength_map is None else from_mask(strength_map)
        bundle = model.ready_for_control(*images.shape[-2:])
        with comfy.Cancellable():
            return io.NodeOutput(prepare_control(bundle, condition, images, strength, where))
