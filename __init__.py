"""Tessera: VQGAN and transformer image synthesis for ComfyUI and Python. Imports nothing until it is asked to."""

# ruff: noqa: F405
TYPE_CHECKING = False  # type checkers take it for True
if TYPE_CHECKING:
    from .core.api import *  # noqa: F403

WEB_DIRECTORY = "./web"

__all__ = [
    "VQGAN",
    "Bundle",
    "Canvas",
    "EdgeSettings",
    "Emphasis",
    "FirstStage",
    "PatchDiscriminator",
    "Prior",
    "Progress",
    "Quantized",
    "SampleResult",
    "SamplingSettings",
    "SamplingState",
    "Sketch",
    "Sliding",
    "Transformer",
    "TransformerConfig",
    "VQGANConfig",
    "agree",
    "canny",
    "decode",
    "encode",
    "estimate",
    "inspect_model",
    "load",
    "load_canvas",
    "load_vqgan",
    "read_image",
    "sample",
    "sample_steps",
    "save_bundle",
    "save_canvas",
    "save_vqgan",
    "to_pil",
]  # all of core/api.py


def __getattr__(name: str) -> object:
    """The public API, imported at its first use. Any other name is missing at once: hosts look for some."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .core import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


async def comfy_entrypoint():
    """Called by ComfyUI for the pack's nodes."""
    from .nodes import TesseraExtension

    return TesseraExtension()
