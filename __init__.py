"""Tessera: VQGAN and transformer image synthesis for ComfyUI. Imports nothing until it is asked to."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """Called by ComfyUI for the pack's nodes."""
    from .nodes import TesseraExtension

    return TesseraExtension()
