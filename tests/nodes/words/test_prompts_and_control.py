"""Prompts and control through the nodes: a file in the originals' layout to a painted picture."""

import shutil

import pytest
import torch
from safetensors.torch import save_file

from tessera.core.canvas.canvas import Canvas
from tessera.core.conditions.text import TextFeatures
from tessera.core.sampling.settings import SamplingSettings
from tessera.nodes import NODES
from tessera.tests.core.checkpoints.layouts.llamagen_layout import (
    CODES,
    FEATURES,
    any_order_shapes,
    class_shapes,
    control_shapes,
    fill_llama,
    vq_shapes,
)

SETTINGS = SamplingSettings(guidance_scale=3.0)


def node(name: str):
    return next(one for one in NODES if one.define_schema().node_id == name)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("released")
    tokenizer = {"model": fill_llama(vq_shapes((1, 1, 1, 1, 1), codes=CODES))}
    for name in ("vq_ds16_c2i.pt", "vq_ds16_t2i.pt"):
        torch.save(tokenizer, folder / name)
    save_file(fill_llama(control_shapes(grid=4)), folder / "canny_MR.safetensors")
    torch.save({"model": fill_llama(class_shapes())}, folder / "c2i_B_256.pt")
    save_file(fill_llama(any_order_shapes()), folder / "randar_0.3b_llamagen.safetensors")
    return folder


@pytest.fixture
def folders(host, files, tmp_path):
    """ComfyUI's folders with a transformer in one and its tokenizer in the other."""
    from tessera.nodes.host.comfy import register_model_folders

    register_model_folders()
    for folder, pattern in (("vqgan", "vq_*"), ("vq_transformer", "[!v]*")):
        (tmp_path / "models" / folder).mkdir()
        for file in files.glob(pattern):
            shutil.copy(file, tmp_path / "models" / folder)
    return tmp_path


def load(name: str):
    return node("TesseraLoadBundle").execute(name)[0]


def painted(model, condition, canvas=None, settings=SETTINGS):
    """The canvas of one picture."""
    results = node("TesseraSampleCodes").execute(model, 3, 1, 0, condition, canvas, settings).args
    return next(one for one in results if isinstance(one, Canvas))


def test_a_saved_prompt_and_an_image_guide_a_picture(folders):
    features = torch.randn(1, 5, FEATURES, generator=torch.Generator().manual_seed(0))
    text = TextFeatures(features, torch.ones(1, 5).bool(), ("a cup",), "tiny")
    node("TesseraSavePrompt").execute(text, "tessera/cup")
    name = "tessera/cup_00001_.prompt.safetensors [output]"
    again = node("TesseraLoadPrompt").execute(name)[0]
    assert again.prompts == ("a cup",)
    model = load("canny_MR.safetensors")
    prompted = node("TesseraPrompt").execute(model, again)[0]
    lines = (torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(1)) > 0.8).float()
    controlled = [
        node("TesseraControl").execute(model, prompted, lines, "original size", strength, mask)[0]
        for strength, mask in ((1.0, None), (1.0, torch.zeros(1, 64, 64)))
    ]
    canvases = [painted(model, condition) for condition in (prompted, *controlled)]
    assert not torch.equal(canvases[0].indices, canvases[1].indices)
    assert torch.equal(canvases[0].indices, canvases[2].indices)  # a black map lets nothing through


def test_a_hole_is_painted_by_a_prior_of_any_order(folders):
    model = load("randar_0.3b_llamagen.safetensors")
    label = node("TesseraClassLabel").execute(model, 3)[0]
    canvas = Canvas(torch.full((1, 16, 16), 7), torch.ones(1, 16, 16).bool())
    canvas.known[:, 6:10, 6:10] = False
    made = painted(model, label, canvas)
    assert made.known.all()
    assert (made.indices[canvas.known] == 7).all()


def test_classes_are_painted_guided_and_unguided(folders):
    model = load("c2i_B_256.pt")
    label = node("TesseraClassLabel").execute(model, 3)[0]
    canvas = Canvas(torch.zeros(1, 16, 16).long(), torch.ones(1, 16, 16).bool())
    canvas.known[:, -1] = False
    guided, free = painted(model, label, canvas), painted(model, None, canvas, None)
    assert not torch.equal(guided.indices, free.indices)


def test_control_needs_a_model_that_has_it(folders):
    model = load("c2i_B_256.pt")
    label = node("TesseraClassLabel").execute(model, 3)[0]
    with pytest.raises(ValueError, match="has no control by images"):
        node("TesseraControl").execute(model, label, torch.zeros(1, 64, 64, 3), "original size", 1.0, None)


def test_a_missing_text_encoder_is_told_before_the_run(folders):
    checked = node("TesseraEncodePrompt").validate_inputs("no-t5")
    assert "put FLAN-T5-XL there as a folder" in checked
