"""ComfyUI's own CLIP and CLIP_VISION as a CLIP of ours."""

from __future__ import annotations

from typing import Any

import torch

from ...core.clip.pairing import Tower, pair_towers
from . import comfy
from .painting import ClipHandle

NAME = "CLIP with CLIP_VISION"


def pair_clip(clip: Any, clip_vision: Any) -> ClipHandle:
    """Both as one; its weights are copies, since ComfyUI's own can't be differentiated.

    Raises:
        ValueError: as `pair_towers`.
    """
    with torch.inference_mode(False):  # ComfyUI's inference mode would mark the weights for ever
        model = pair_towers(_image_tower(clip_vision), _text_towers(clip), NAME)
    return ClipHandle(f"pair {id(clip)} {id(clip_vision)}", model, comfy.patcher_of(model.clip))


def _image_tower(clip_vision: Any) -> Tower:
    """The half for pictures; ValueError where it is another kind of model."""
    model = clip_vision.model
    layers = getattr(getattr(getattr(model, "vision_model", None), "encoder", None), "layers", None)
    if not layers:
        raise ValueError(f"{NAME}: the half for pictures is no plain CLIP (a SigLIP or a DINOv2, for instance)")
    tensors = {n: t for n, t in clip_vision.get_sd().items() if n.startswith(("vision_model.", "visual_projection."))}
    return Tower(tensors, layers[0].mlp.activation)


def _text_towers(clip: Any) -> list[Tower]:
    """The halves for words: SDXL and SD3 have two, and encoders of other kinds beside them."""
    towers = []
    for part in clip.cond_stage_model.children():
        text = getattr(getattr(part, "transformer", None), "text_model", None)
        if text is not None and hasattr(part, "logit_scale"):
            tensors = {
                name: tensor for name, tensor in part.transformer.state_dict().items()
                if name.startswith(("text_model.", "text_projection."))
            }  # fmt: skip
            towers.append(Tower(tensors | {"logit_scale": part.logit_scale}, text.encoder.layers[0].mlp.activation))
    return towers
