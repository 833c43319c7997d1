"""Nodes that compare: settings, candidates, pictures, codes."""

from collections.abc import Callable
from math import nan
from typing import get_args

from torch import Tensor

from ..core.autoencoders.quantizers import codebook_usage
from ..core.canvas.atlas import Order, code_counts, codebook_atlas
from ..core.canvas.canvas import Canvas
from ..core.images.io import to_pil, to_tensor
from ..core.images.metrics import check_alike, code_agreement, perceptual_comparison, psnr, ssim
from ..core.images.sheet import labeled_sheet, labeled_tiles
from ..core.images.tiles import repeat_image
from ..core.prepared import PreparedCondition
from ..core.sampling.likelihood import best_of, check_choice, mean_log_probability
from ..core.sampling.settings import SamplingSettings, Swept, parse_values, swept_settings
from . import sockets
from .host import comfy
from .host.comfy import io, ui
from .host.handles import BundleHandle, VQGANHandle
from .host.images import from_image, to_image
from .host.painting import ClipHandle
from .host.sampling import Sampled, SamplingRequest, WindowChoice, finish, run, sweep
from .inputs import DEFAULT_SETTINGS, canvas_inputs, model_input, preview_input, seed_input, vqgan_input

CATEGORY = "Tessera/compare"


class SweepSettings(io.ComfyNode):
    """One seed, one setting in several values."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraSweepSettings",
            display_name="Sweep Settings",
            category=CATEGORY,
            description="Makes the same picture with one setting in several values, on a labelled sheet. The seed "
            "stays, so you see what the setting does and nothing else.",
            inputs=[
                model_input(),
                seed_input(),
                io.Combo.Input(
                    "setting", options=list(get_args(Swept)), default="temperature", tooltip="What changes."
                ),
                io.String.Input("values", default="0.3, 0.6, 0.8, 1, 1.3", tooltip="Its values, separated by commas."),
                io.Int.Input("pictures", default=3, min=1, max=16, tooltip="Seeds in each row: seed, seed + 1 ..."),
                preview_input(),
                *canvas_inputs(),
            ],
            outputs=[
                io.Image.Output(display_name="sheet", tooltip="A row for each value, a column for each seed."),
                io.Image.Output(display_name="all", tooltip="The pictures alone, row by row."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        model: BundleHandle,
        seed: int,
        setting: str,
        values: str,
        pictures: int,
        preview_every: int,
        condition: PreparedCondition | None = None,
        canvas: Canvas | None = None,
        settings: SamplingSettings | None = None,
        sliding: WindowChoice | None = None,
    ) -> io.NodeOutput:
        numbers = parse_values(values)
        each = swept_settings(settings or DEFAULT_SETTINGS, setting, numbers)
        request = SamplingRequest(
            model=model, condition=condition, canvas=canvas, window=sliding, seed=seed, pictures=pictures
        )
        runs = sweep(request, each, preview_every)
        every = runs[0].canvas.join([other.canvas for other in runs[1:]])
        made = model.vqgan.decode(every)
        sheet = labeled_sheet([f"{setting} {number:g}" for number in numbers], to_pil(made))
        shown = to_image(to_tensor(sheet))
        finish(*runs)
        return io.NodeOutput(shown, to_image(made), ui=comfy.finished_pictures(shown, cls))


class BestOf(io.ComfyNode):
    """Many candidates, the likeliest kept."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraBestOf",
            display_name="Best of Many",
            category=CATEGORY,
            description="Makes many candidates and keeps those that the model itself finds likeliest: fewer accidents, "
            "less surprise. With a CLIP, those that fit the words best.",
            inputs=[
                model_input(),
                seed_input(),
                io.Int.Input("candidates", default=9, min=1, max=64, tooltip="How many pictures to choose from."),
                io.Int.Input("keep", default=1, min=1, max=64, tooltip="How many to keep, the best first."),
                preview_input(),
                *canvas_inputs(),
                sockets.CLIP.Input(
                    "clip", optional=True, tooltip="From Load CLIP: candidates are ranked by words, not by likelihood."
                ),
                io.String.Input(
                    "text", default="", multiline=True, optional=True, tooltip="What they should show, for the CLIP."
                ),
            ],
            outputs=[
                io.Image.Output(display_name="picture", tooltip="Those that are kept, best first."),
                sockets.Canvas.Output(display_name="canvas", tooltip="Their canvases."),
                io.Image.Output(
                    display_name="ranking",
                    tooltip="All candidates, best first, with their mean log p in nats or their cosine with the words.",
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        model: BundleHandle,
        seed: int,
        candidates: int,
        keep: int,
        preview_every: int,
        condition: PreparedCondition | None = None,
        canvas: Canvas | None = None,
        settings: SamplingSettings | None = None,
        sliding: WindowChoice | None = None,
        clip: ClipHandle | None = None,
        text: str | None = None,
    ) -> io.NodeOutput:
        check_choice(candidates, keep)
        judge = judged_by(clip, text or "")
        request = SamplingRequest(
            model=model, condition=condition, canvas=canvas, settings=settings or DEFAULT_SETTINGS, window=sliding,
            seed=seed, pictures=candidates,
        )  # fmt: skip
        sampled = run(request, preview_every)
        made = model.vqgan.decode(sampled.canvas)
        scores = judge(sampled, made)
        best = sampled.canvas.pick(best_of(scores, len(scores) // candidates, keep))
        picture = to_image(model.vqgan.decode(best))
        finish(sampled)
        return io.NodeOutput(picture, best, to_image(ranking(scores, made)), ui=comfy.finished_pictures(picture, cls))


def ranking(scores: Tensor, images: Tensor) -> Tensor:
    """All images, best first, each with its score: a sheet [1, 3, H, W]."""
    order = scores.argsort(descending=True, stable=True)
    return to_tensor(labeled_tiles([f"{score:.3f}" for score in scores[order].tolist()], to_pil(images[order])))


def judged_by(clip: ClipHandle | None, text: str) -> Callable[[Sampled, Tensor], Tensor]:
    """What scores the pictures of a run, [B, 3, H, W] in -1..1 -> [B]: words if a CLIP is given, else likelihood.

    Raises:
        ValueError: a CLIP without words.
    """
    if clip is None:
        return lambda sampled, made: mean_log_probability(sampled.state, sampled.start.known)
    if not text.strip():
        raise ValueError("a CLIP is connected, but the text is empty; write what the pictures should show")
    return lambda _, made: clip.score(made, text)


class CodebookAtlas(io.ComfyNode):
    """All codes to look at."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraCodebookAtlas",
            display_name="Codebook Atlas",
            category=CATEGORY,
            description="Shows what each code of a VQGAN looks like, and which of them a canvas uses.",
            inputs=[
                vqgan_input(),
                io.Combo.Input(
                    "order", options=list(get_args(Order)), default="brightness",
                    tooltip="number: as the model counts them. brightness: bright ones first. use: those the canvas "
                    "uses most first.",
                ),
                sockets.Canvas.Input("canvas", optional=True, tooltip="Codes that it does not use are dimmed."),
            ],
            outputs=[
                io.Image.Output(display_name="atlas", tooltip="A swatch for each code."),
                io.Float.Output(display_name="used", tooltip="Share of the codes that the canvas uses, 0 to 1."),
                io.Float.Output(
                    display_name="perplexity", tooltip="How many codes it would use if it used all equally often."
                ),
            ],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def execute(cls, vqgan: VQGANHandle, order: str, canvas: Canvas | None = None) -> io.NodeOutput:
        codes = vqgan.module.config.codebook_size
        with comfy.Watched(vqgan.ready_for_atlas().decoder, codes):
            shown = to_image(codebook_atlas(vqgan.module, order, canvas))
        use = codebook_usage(code_counts(canvas, codes))
        return io.NodeOutput(shown, use.usage, use.perplexity, ui=comfy.saved_pictures(shown, cls))


class ComparePictures(io.ComfyNode):
    """How alike pictures are."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraComparePictures",
            display_name="Compare Pictures",
            category=CATEGORY,
            description="Measures how alike two pictures are, such as a photograph and what a VQGAN makes of it. Means "
            "over a batch.",
            inputs=[
                io.Image.Input("a", tooltip="A picture, or several."),
                io.Image.Input("b", tooltip="As many, of the same size."),
                io.Boolean.Input(
                    "with_lpips", default=False, optional=True,
                    tooltip="Measures LPIPS too. The first time it fetches the weights of VGG16, 528 MB.",
                ),
            ],
            outputs=[
                io.Float.Output(
                    display_name="psnr", tooltip="Signal to noise in decibels; above 30 hardly a difference is seen."
                ),
                io.Float.Output(display_name="ssim", tooltip="Structural similarity, up to 1 for equal pictures."),
                io.Float.Output(
                    display_name="lpips", tooltip="Distance as a trained network sees it: 0 for equal pictures, 0.5 "
                    "for very different ones; nan where it wasn't measured.",
                ),
                io.String.Output(display_name="report", tooltip="All in one line."),
            ],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def execute(cls, a: Tensor, b: Tensor, with_lpips: bool | None = None) -> io.NodeOutput:
        one, other = from_image(a), from_image(b)
        check_alike(one, other, "picture")
        noise, likeness = float(psnr(one, other).mean()), float(ssim(one, other).mean())
        distance, said = perceptual_comparison(one, other) if with_lpips else (nan, "LPIPS not measured")
        comfy.say(report := f"PSNR {noise:.2f} dB, SSIM {likeness:.3f}, {said}")
        return io.NodeOutput(noise, likeness, distance, report, ui=ui.PreviewText(report))


class CompareCanvases(io.ComfyNode):
    """How many codes agree."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraCompareCanvases",
            display_name="Compare Canvases",
            category=CATEGORY,
            description="Counts the cells that hold the same code in two canvases.",
            inputs=[
                sockets.Canvas.Input("a", tooltip="A canvas."),
                sockets.Canvas.Input("b", tooltip="One of the same size."),
            ],
            outputs=[io.Float.Output(display_name="agreement", tooltip="Share of cells with the same code, 0 to 1.")],
        )

    @classmethod
    def execute(cls, a: Canvas, b: Canvas) -> io.NodeOutput:
        check_alike(a.indices, b.indices, "canvas")
        return io.NodeOutput(float(code_agreement(a.indices, b.indices).mean()))


class TilePreview(io.ComfyNode):
    """A picture beside itself."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraTilePreview",
            display_name="Tile Preview",
            category=CATEGORY,
            description="Lays a picture beside and below itself, so that seams show where it doesn't fit its own other "
            "end.",
            inputs=[
                io.Image.Input("image", tooltip="The picture, or several."),
                io.Int.Input("across", default=3, min=1, max=16, tooltip="How often beside itself."),
                io.Int.Input("down", default=3, min=1, max=16, tooltip="How often below itself."),
            ],
            outputs=[io.Image.Output(display_name="tiled", tooltip="So many times as wide and as high.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, image: Tensor, across: int, down: int) -> io.NodeOutput:
        tiled = to_image(repeat_image(from_image(image), across, down))
        return io.NodeOutput(tiled, ui=comfy.saved_pictures(tiled, cls))
