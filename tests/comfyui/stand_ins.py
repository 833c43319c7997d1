"""Tiny models of random numbers in the place, and in the very layout, of the published ones that workflows name."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from tessera.tests.core.checkpoints.layouts.imagegpt_layout import random_image_gpt
from tessera.tests.core.checkpoints.layouts.llamagen_layout import (
    CODES,
    FEATURES,
    any_order_shapes,
    class_shapes,
    control_shapes,
    fill_llama,
    text_shapes,
    vq_shapes,
)
from tessera.tests.core.checkpoints.layouts.original_layout import write_lightning
from tessera.tests.core.checkpoints.layouts.released_shapes import prior_state
from tessera.tests.core.conditions.tiny_text_encoder import write_text_encoder
from tessera.tests.core.worded_bundles import save_caption_bundle

TAMING = {
    "drin": "depth", "sflckr": "segmentation", "cin": "class", "scenes_coco": "layout", "faceshq": "coordinates",
}  # fmt: skip
IMAGENET = 1000  # classes
ENCODER = "flan-t5-xl"
WINDOW = 16  # cells a side
PIXELS = 32  # a side of Image-GPT's pictures


def write_stand_ins(models: Path) -> None:
    """Write one for each published model, into ComfyUI's folders below `models`."""
    priors, vqgans = models / "vq_transformer", models / "vqgan"
    for folder in (priors, vqgans):
        folder.mkdir(parents=True, exist_ok=True)
    for name, kind in TAMING.items():
        write_lightning(priors / f"{name}.ckpt", prior_state(kind))
    tokenizer = {"model": fill_llama(vq_shapes((1, 1, 1, 1, 1), codes=CODES))}
    for name in ("vq_ds16_c2i.pt", "vq_ds16_t2i.pt"):
        torch.save(tokenizer, vqgans / name)
    torch.save({"model": fill_llama(class_shapes(classes=IMAGENET))}, priors / "c2i_B_384.pt")
    torch.save({"model": fill_llama(text_shapes())}, priors / "t2i_XL_stage2_512.pt")
    any_order = priors / "randar_0.7b_llamagen_360k_bs_1024_lr_0.0004.safetensors"
    save_file(fill_llama(any_order_shapes(classes=IMAGENET)), any_order)
    for name in ("canny_MR.safetensors", "depth_MR.safetensors"):
        save_file(fill_llama(control_shapes(grid=WINDOW)), priors / name)
    image_gpt = priors / "imagegpt-small"
    image_gpt.mkdir()
    torch.save(random_image_gpt(image_gpt, PIXELS)[0].state_dict(), image_gpt / "pytorch_model.bin")
    save_caption_bundle(priors / "words.safetensors", WINDOW)
    write_text_encoder(models / "text_encoders" / ENCODER, FEATURES)
