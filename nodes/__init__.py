"""ComfyUI nodes: each a schema and a few lines that call core."""

from . import (
    animate,
    canvas,
    canvas_files,
    codes,
    compare,
    conditions,
    inpaint,
    layout,
    loaders,
    palette,
    sample,
    sliding,
)
from .host import comfy
from .host.comfy import ComfyExtension, io
from .host.training_route import add_training_routes
from .search import add_search_words
from .training import train
from .words import clip, films, gate, painting, prompts, sketch, steering

NODES: list[type[io.ComfyNode]] = [
    loaders.LoadBundle,
    loaders.DownloadModel,
    sample.SampleCodes,
    sample.Settings,
    sample.TemperatureMap,
    palette.PaletteOfPicture,
    palette.BanAndBoost,
    sliding.SlidingWindow,
    sliding.PlanRun,
    conditions.Edges,
    conditions.Depth,
    conditions.Segmentation,
    conditions.LowResolution,
    conditions.ClassLabel,
    conditions.Caption,
    prompts.EncodePrompt,
    prompts.Prompt,
    prompts.SavePrompt,
    prompts.LoadPrompt,
    prompts.Control,
    sketch.SketchNode,
    sketch.EmphasisNode,
    layout.SceneLayout,
    loaders.LoadVQGAN,
    codes.EncodeCanvas,
    codes.DecodeCanvas,
    codes.EncodeLatent,
    codes.Quantize,
    codes.DecodeLatent,
    canvas.EmptyCanvas,
    canvas.KeepHalf,
    canvas.Forget,
    canvas.Lock,
    canvas.Outpaint,
    inpaint.CropAroundMask,
    inpaint.PutBack,
    inpaint.AgreeWithSmallPicture,
    canvas.Crop,
    canvas.Paste,
    canvas.Roll,
    canvas.Blend,
    compare.TilePreview,
    animate.AnimateTemperature,
    animate.Travel,
    animate.RollFrames,
    canvas_files.ShowCanvas,
    canvas_files.SaveCanvas,
    canvas_files.LoadCanvas,
    canvas_files.RecallCanvas,
    canvas_files.SavePicture,
    canvas_files.LoadCanvasOfPicture,
    compare.SweepSettings,
    compare.BestOf,
    compare.CodebookAtlas,
    compare.ComparePictures,
    compare.CompareCanvases,
    clip.LoadCLIP,
    clip.PairCLIP,
    painting.PaintByWords,
    painting.PaintSettings,
    clip.WordsPrompt,
    clip.PicturePrompt,
    films.PaintStory,
    films.RestyleFilm,
    steering.SteerByWords,
    gate.Gate,
    gate.LoadDiscriminator,
    clip.RankByWords,
    clip.Classify,
    train.TrainVQGAN,
    train.TrainPrior,
    loaders.ExamplePicture,
]

for _node in NODES:
    add_search_words(_node)


class TesseraExtension(ComfyExtension):
    """What ComfyUI asks for the nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """All nodes, in the order of the menu."""
        comfy.register_model_folders()  # here, since old hosts never call on_load
        add_training_routes()
        return NODES
