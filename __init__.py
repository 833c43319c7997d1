"""Tessera: VQGAN and transformer image synthesis for ComfyUI. Imports nothing until it is asked to."""
