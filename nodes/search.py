"""Words under which people look for a node of another name. Newer hosts search for them; older ones don't mind."""

from .host.comfy import io

WORDS = {
    "TesseraLoadBundle": ["taming", "transformer", "vqgan", "checkpoint", "load model", "autoregressive"],
    "TesseraDownloadModel": ["taming", "checkpoint", "imagenet", "flickr", "ffhq", "faces", "get model", "pretrained"],
    "TesseraSampleCodes": [
        "sampler",
        "ksampler",
        "generate",
        "transformer",
        "taming",
        "vqgan",
        "inpaint",
        "autoregressive",
    ],
    "TesseraSamplingSettings": ["temperature", "top k", "top p", "min p", "cfg", "guidance", "creativity"],
    "TesseraTemperatureMap": ["mask", "regional", "temperature", "soft mask", "paint"],
    "TesseraPaletteOfPicture": ["colors", "colours", "reference", "style", "ip adapter", "color match", "palette"],
    "TesseraBanAndBoost": ["logit bias", "negative", "forbid codes", "tokens", "palette"],
    "TesseraSlidingWindow": ["seamless", "tile", "tiling", "panorama", "large", "high resolution", "360"],
    "TesseraPlanRun": ["time", "memory", "estimate", "how long", "vram"],
    "TesseraEdges": ["canny", "sketch", "scribble", "lineart", "line art", "hed", "outline", "controlnet", "drawing"],
    "TesseraDepth": ["depth map", "midas", "depth anything", "controlnet"],
    "TesseraSegmentation": ["segmentation map", "semantic", "ade20k", "coco", "label map", "controlnet"],
    "TesseraLowResolution": ["upscale", "super resolution", "enlarge", "upscaler"],
    "TesseraClassLabel": ["imagenet", "class", "category", "label"],
    "TesseraCaption": ["caption", "words", "keywords", "tags", "text to image", "prompt"],
    "TesseraEncodePrompt": ["text", "t5", "clip text encode"],
    "TesseraPrompt": ["text to image", "llamagen"],
    "TesseraSavePrompt": ["keep prompt", "text features"],
    "TesseraLoadPrompt": ["open prompt", "text features"],
    "TesseraControl": ["controlnet", "controlar", "canny", "depth"],
    "TesseraSketch": ["text to image", "prompt", "scribble", "color map", "style", "words", "canny", "controlnet"],
    "TesseraEmphasis": ["weight", "strength", "guidance", "style strength", "cfg", "sketch"],
    "TesseraLayout": ["bounding boxes", "bbox", "regions", "scene", "composition"],
    "TesseraLoadVQGAN": ["vae", "vqvae", "autoencoder", "tokenizer", "load vae"],
    "TesseraEncodeCanvas": ["vae encode", "tokenize", "image to codes", "vqgan encode", "img2img"],
    "TesseraDecodeCanvas": ["vae decode", "detokenize", "codes to image"],
    "TesseraEncodeLatent": ["vae encode", "latent", "vqgan"],
    "TesseraQuantize": ["codebook", "nearest code", "vq", "latent"],
    "TesseraDecodeLatent": ["vae decode", "latent", "vqgan"],
    "TesseraEmptyCanvas": ["empty latent", "blank", "size", "resolution"],
    "TesseraKeepHalf": ["complete", "completion", "half", "extend"],
    "TesseraForget": ["inpaint", "mask", "erase", "remove", "retouch"],
    "TesseraLock": ["mask", "protect", "keep", "inpaint", "freeze"],
    "TesseraOutpaint": ["extend", "uncrop", "expand", "pad"],
    "TesseraCropAroundMask": ["inpaint crop", "crop to mask", "detailer", "region", "bbox"],
    "TesseraAgreeWithSmallPicture": ["upscale", "super resolution", "color match", "back projection"],
    "TesseraPutBack": ["inpaint stitch", "composite", "blend", "paste", "feather", "restore"],
    "TesseraCropCanvas": ["crop", "cut"],
    "TesseraPasteCanvas": ["collage", "composite", "paste", "combine"],
    "TesseraRollCanvas": ["offset", "shift", "seam", "wrap"],
    "TesseraBlendCanvas": ["mix", "interpolate", "morph", "merge"],
    "TesseraTilePreview": ["seamless", "texture", "pattern", "repeat", "tiling"],
    "TesseraAnimateTemperature": ["video", "animation", "frames", "batch", "temperature"],
    "TesseraTravel": ["morph", "interpolation", "video", "animation", "seed travel", "slerp"],
    "TesseraRollFrames": ["video", "animation", "loop", "scroll", "pan", "panorama"],
    "TesseraShowCanvas": ["preview", "grid", "cells", "tokens"],
    "TesseraSaveCanvas": ["save", "codes", "tokens"],
    "TesseraLoadCanvas": ["load", "codes", "tokens"],
    "TesseraRecallCanvas": ["resume", "cancel", "interrupted", "continue"],
    "TesseraSavePicture": ["save image", "png", "metadata", "provenance"],
    "TesseraLoadCanvasOfPicture": ["load image", "metadata", "png info", "provenance"],
    "TesseraSweepSettings": ["xy plot", "grid", "compare", "parameter"],
    "TesseraBestOf": ["rejection sampling", "rank", "choose", "batch", "likelihood"],
    "TesseraCodebookAtlas": ["codebook", "palette", "swatches", "tokens", "vocabulary"],
    "TesseraComparePictures": ["psnr", "ssim", "lpips", "metrics", "difference", "quality"],
    "TesseraCompareCanvases": ["difference", "agreement", "metrics", "tokens"],
    "TesseraPairCLIP": ["clip vision", "join clip", "clip score"],
    "TesseraLoadCLIP": ["clip", "openai", "vit", "load clip", "text encoder"],
    "TesseraPaintByWords": ["vqgan clip", "text to image", "txt2img", "prompt", "clip guidance"],
    "TesseraPaintSettings": ["cutouts", "learning rate", "augmentations", "optimizer"],
    "TesseraWordsPrompt": ["prompt", "text", "clip text encode", "conditioning"],
    "TesseraPicturePrompt": ["image prompt", "ip adapter", "reference", "clip vision"],
    "TesseraPaintStory": ["video", "animation", "zoom", "film", "prompt travel"],
    "TesseraRestyle": ["style transfer", "video", "img2img", "film"],
    "TesseraSteerByWords": ["text to image", "particles", "clip guided sampling"],
    "TesseraGate": ["rejection", "retry", "best of"],
    "TesseraLoadDiscriminator": ["patchgan", "critic", "realism"],
    "TesseraRankByWords": ["clip score", "rerank", "choose", "best of"],
    "TesseraClassify": ["zero shot", "clip", "label", "interrogate"],
    "TesseraTrainVQGAN": ["training", "fine-tune", "finetune", "vae", "learn", "autoencoder", "dataset"],
    "TesseraTrainPrior": ["training", "fine-tune", "finetune", "transformer", "learn", "dataset"],
    "TesseraExamplePicture": ["load image", "demo", "sample", "test image"],
}


def add_search_words(node: type[io.ComfyNode]) -> None:
    """Let a node's schema tell its words. Set afterwards, since older hosts refuse the argument."""
    define = node.define_schema.__func__

    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = define(cls)
        schema.search_aliases = WORDS.get(schema.node_id, [])
        return schema

    node.define_schema = define_schema
