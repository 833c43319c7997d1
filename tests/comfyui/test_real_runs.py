"""Every node runs in a real ComfyUI, and gives what core gives."""

import numpy as np
import pytest
import torch
from PIL import Image

from tessera.core.bundle_file import load_bundle
from tessera.core.canvas.canvas_file import load_canvas
from tessera.core.canvas.codec import decode_canvas, encode_canvas
from tessera.core.canvas.edits import keep_side
from tessera.core.images.io import to_tensor
from tessera.core.images.resize import fit, resize_lines
from tessera.core.prepared import prepare_image_condition, prepare_unconditional
from tessera.core.provenance import read_note
from tessera.core.sampling.loop import sample
from tessera.core.sampling.settings import SamplingSettings


def node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs}


def load(name: str) -> dict:
    return node("TesseraLoadBundle", file=f"{name}.safetensors")


def bytes_of(pictures: torch.Tensor) -> np.ndarray:
    """[B, C, H, W] in -1..1 -> [B, H, W, 3] uint8, cut off as ComfyUI does."""
    pictures = pictures.expand(-1, 3, -1, -1).movedim(1, -1)
    return ((pictures + 1) / 2 * 255).numpy().astype(np.uint8)


def picture(server, name: str) -> torch.Tensor:
    return to_tensor(Image.open(server.folder / "input" / name))


def alike(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and np.abs(a.astype(int) - b).max() <= 1


SAMPLE = {"seed": 3, "pictures": 2, "preview_every": 1}


def test_edges_to_pictures_is_what_core_makes(server, tiny_models):
    prompt = {
        "1": load("edges"),
        "2": node("LoadImage", image="noise.png"),
        "3": node(
            "TesseraEdges", model=["1", 0], image=["2", 0], picture_is="lines", size="whole picture", low=50, high=120,
            blur=0,
        ),
        "4": node("TesseraSamplingSettings", temperature=0.8, top_k=9, top_p=0.95, min_p=0.01),
        "5": node("TesseraSampleCodes", model=["1", 0], condition=["3", 0], settings=["4", 0], **SAMPLE),
        "6": node("PreviewImage", images=["3", 1]),
        "7": node("MaskToImage", mask=["5", 2]),
        "8": node("PreviewImage", images=["7", 0]),
        "9": node("TesseraDecodeCanvas", vqgan=["1", 1], canvas=["5", 1]),
        "10": node("PreviewImage", images=["9", 0]),
    }  # fmt: skip
    report = server.run(prompt)
    assert report.status == "success", report.error
    bundle = load_bundle(tiny_models / "vq_transformer" / "edges.safetensors")
    lines = fit(picture(server, "noise.png"), "whole picture", 16, resize_lines).mean(1, keepdim=True)
    guide = prepare_image_condition(bundle, "edges", lines)
    settings = SamplingSettings(temperature=0.8, top_k=9, top_p=0.95, min_p=0.01)
    state = sample(bundle.prior, guide.condition, guide.canvas.repeat(2), 3, settings)
    expected = bytes_of(decode_canvas(bundle.vqgan, state.canvas.with_padding(guide.canvas.padding)))
    assert expected.shape == (2, 16, 22, 3)
    assert alike(server.pictures(report, "5"), expected)
    assert alike(server.pictures(report, "10"), expected)
    cells = 4 * 6
    assert report.progress[-1] == (cells, cells)
    assert report.previews  # the last one always comes
    entropy = server.pictures(report, "8")
    assert entropy.shape == (2, 16, 22, 3)
    assert 0 < entropy.mean() < 255


@pytest.mark.parametrize("kind", ["depth", "segmentation", "low-resolution"])
def test_other_pictures_guide_too(server, tiny_models, kind):
    node_of = {"depth": "TesseraDepth", "segmentation": "TesseraSegmentation", "low-resolution": "TesseraLowResolution"}
    prompt = {
        "1": load(kind),
        "2": node("LoadImage", image="noise.png"),
        "3": node(node_of[kind], model=["1", 0], image=["2", 0], size="square"),
        "4": node("TesseraSampleCodes", model=["1", 0], condition=["3", 0], **SAMPLE),
    }
    if kind == "depth":
        prompt["3"]["inputs"]["near_is_bright"] = False
    if kind == "segmentation":
        prompt["5"] = node("LoadImage", image="small.png")
        prompt["3"]["inputs"]["palette"] = ["5", 0]
    report = server.run(prompt)
    assert report.status == "success", report.error
    assert server.pictures(report, "4").shape == (2, 16, 16, 3)
    assert server.pictures(report, "3").shape == (1, 16, 16, 3)


@pytest.mark.parametrize("kind", ["none", "coordinates"])
def test_models_without_a_picture_fill_a_canvas_of_any_size(server, tiny_models, kind):
    prompt = {
        "1": load(kind),
        "2": node("TesseraEmptyCanvas", vqgan=["1", 1], width=29, height=18),
        "3": node("TesseraSampleCodes", model=["1", 0], canvas=["2", 0], **SAMPLE),
    }
    report = server.run(prompt)
    assert report.status == "success", report.error
    bundle = load_bundle(tiny_models / "vq_transformer" / f"{kind}.safetensors")
    from tessera.core.canvas.codec import empty_canvas

    guide = prepare_unconditional(bundle, empty_canvas(18, 29, 4))
    state = sample(bundle.prior, guide.condition, guide.canvas.repeat(2), 3, SamplingSettings())
    expected = decode_canvas(bundle.vqgan, state.canvas.with_padding(guide.canvas.padding))
    assert alike(server.pictures(report, "3"), bytes_of(expected))


def test_class_and_temperature_map(server):
    prompt = {
        "1": load("class"),
        "2": node("TesseraClassLabel", model=["1", 0], label=4),
        "3": node("SolidMask", value=0.5, width=33, height=20),
        "4": node("TesseraTemperatureMap", mask=["3", 0], black=0.0, white=0.0),
        "5": node("TesseraSampleCodes", model=["1", 0], condition=["2", 0], settings=["4", 0], **SAMPLE),
    }
    report = server.run(prompt)
    assert report.status == "success", report.error
    cold = server.pictures(report, "5")
    assert np.array_equal(cold[0], cold[1])  # at temperature 0 the seed does not matter


def test_half_of_a_picture_is_completed_and_the_other_kept(server, tiny_models):
    prompt = {
        "1": load("none"),
        "2": node("LoadImage", image="noise.png"),
        "3": node("TesseraEncodeCanvas", vqgan=["1", 1], image=["2", 0]),
        "4": node("TesseraKeepHalf", canvas=["3", 0], side="left", share=0.9),
        "5": node("TesseraSampleCodes", model=["1", 0], canvas=["4", 0], seed=1, pictures=2, preview_every=0),
        "6": node("TesseraSaveCanvas", canvas=["5", 1], filename_prefix="sub/half"),
        "7": node("TesseraShowCanvas", vqgan=["1", 1], canvas=["4", 0]),
    }
    report = server.run(prompt)
    assert report.status == "success", report.error
    assert not report.previews
    bundle = load_bundle(tiny_models / "vq_transformer" / "none.safetensors")
    start = keep_side(encode_canvas(bundle.vqgan, picture(server, "noise.png")), "left", 0.9)
    saved = load_canvas(server.folder / "output" / "sub" / "half_00001_.canvas.safetensors")
    assert saved.known.all()
    assert saved.padding == (0.5, 0.0)
    known = start.known.expand(2, -1, -1)
    assert torch.equal(saved.indices[known], start.indices.expand(2, -1, -1)[known])
    assert not torch.equal(saved.indices[0], saved.indices[1])
    assert server.pictures(report, "5").shape == (2, 190, 260, 3)
    assert server.pictures(report, "7").shape == (1, 190, 260, 3)

    again = {
        "1": node("TesseraLoadVQGAN", file="codec.safetensors"),
        "2": node("TesseraLoadCanvas", file="sub/half_00001_.canvas.safetensors [output]"),
        "3": node("TesseraDecodeCanvas", vqgan=["1", 0], canvas=["2", 0]),
        "4": node("PreviewImage", images=["3", 0]),
    }
    report = server.run(again)
    assert report.status == "success", report.error
    assert alike(server.pictures(report, "4"), bytes_of(decode_canvas(bundle.vqgan, saved)))


def test_latents_pass_through_comfyuis_own_nodes(server, tiny_models):
    prompt = {
        "1": node("TesseraLoadVQGAN", file="codec.safetensors"),
        "2": node("LoadImage", image="noise.png"),
        "3": node("TesseraEncodeLatent", vqgan=["1", 0], image=["2", 0]),
        "4": node("LatentFlip", samples=["3", 0], flip_method="x-axis: vertically"),
        "5": node("LatentFlip", samples=["4", 0], flip_method="x-axis: vertically"),
        "6": node("TesseraQuantize", vqgan=["1", 0], latent=["5", 0]),
        "7": node("TesseraDecodeCanvas", vqgan=["1", 0], canvas=["6", 0]),
        "8": node("TesseraDecodeLatent", vqgan=["1", 0], latent=["6", 1]),
        "9": node("PreviewImage", images=["7", 0]),
        "10": node("PreviewImage", images=["8", 0]),
        "11": node("TesseraDecodeLatent", vqgan=["1", 0], latent=["3", 0]),
        "12": node("PreviewImage", images=["11", 0]),
    }
    report = server.run(prompt)
    assert report.status == "success", report.error
    vqgan = load_bundle(tiny_models / "vq_transformer" / "none.safetensors").vqgan
    expected = bytes_of(decode_canvas(vqgan, encode_canvas(vqgan, picture(server, "noise.png"))))
    assert alike(server.pictures(report, "9"), expected)
    assert alike(server.pictures(report, "10"), expected)
    assert not alike(server.pictures(report, "12"), expected)  # not quantized
    assert server.pictures(report, "12").shape == (1, 190, 260, 3)


def test_canvas_tools_run_one_after_another(server):
    prompt = {
        "1": load("none"),
        "2": node("LoadImage", image="noise.png"),
        "3": node("TesseraEncodeCanvas", vqgan=["1", 1], image=["2", 0]),
        "4": node("TesseraCropCanvas", canvas=["3", 0], left=2, top=1, width=10, height=8),
        "5": node("TesseraRollCanvas", canvas=["4", 0], right=3, down=-2),
        "6": node("TesseraBlendCanvas", vqgan=["1", 1], a=["4", 0], b=["5", 0], amount=0.5),
        "7": node("TesseraPasteCanvas", canvas=["3", 0], patch=["6", 0], left=5, top=6),
        "8": node("SolidMask", value=1.0, width=26, height=19),
        "9": node("TesseraLock", canvas=["7", 0], mask=["8", 0], share=0.5, grow=0),
        "10": node("TesseraOutpaint", canvas=["9", 0], left=1, top=2, right=0, bottom=1),
        "16": node("SolidMask", value=0.0, width=26, height=19),
        "11": node("TesseraForget", canvas=["10", 0], mask=["16", 0], share=0.1, grow=1),
        "12": node("TesseraSampleCodes", model=["1", 0], canvas=["11", 0], seed=1, pictures=1, preview_every=99),
        "13": node("TesseraDecodeCanvas", vqgan=["1", 1], canvas=["10", 0]),
        "14": node("MaskToImage", mask=["13", 1]),
        "15": node("PreviewImage", images=["14", 0]),
    }
    report = server.run(prompt)
    assert report.status == "success", report.error
    unknown = server.pictures(report, "15")[0, :, :, 0]
    assert unknown.shape == (204, 264)  # 48 rows of cells and three more, 65 columns and one more
    assert (unknown[:8] == 255).all()
    assert (unknown[8:200, 4:] == 0).all()
    assert server.pictures(report, "12").shape == (1, 204, 264, 3)


def test_sweep_has_a_row_for_each_value_and_agrees_with_single_runs(server):
    prompt = {
        "1": load("none"),
        "2": node(
            "TesseraSweepSettings", model=["1", 0], seed=3, setting="temperature", values="0, 1, 2", pictures=2,
            preview_every=1,
        ),
        "3": node("PreviewImage", images=["2", 1]),
        "4": node("TesseraSampleCodes", model=["1", 0], **SAMPLE),
    }  # fmt: skip
    report = server.run(prompt)
    assert report.status == "success", report.error
    every = server.pictures(report, "3")
    assert every.shape == (6, 16, 16, 3)
    assert alike(every[2:4], server.pictures(report, "4"))
    assert (48, 48) in report.progress
    sheet = server.pictures(report, "2")
    assert sheet.shape == (1, 3 * (256 + 24 + 8) + 8, 2 * (256 + 8) + 8, 3)


def test_best_of_many_is_one_of_them(server):
    prompt = {
        "1": load("none"),
        "2": node("TesseraBestOf", model=["1", 0], seed=3, candidates=5, keep=2, preview_every=0),
        "3": node("TesseraSampleCodes", model=["1", 0], **{**SAMPLE, "pictures": 5}),
        "4": node("TesseraDecodeCanvas", vqgan=["1", 1], canvas=["2", 1]),
        "5": node("PreviewImage", images=["4", 0]),
        "6": node("PreviewImage", images=["2", 2]),
    }
    report = server.run(prompt)
    assert report.status == "success", report.error
    best, made = server.pictures(report, "2"), server.pictures(report, "3")
    assert len(best) == 2
    assert all(any(alike(one[None], other[None]) for other in made) for one in best)
    assert alike(server.pictures(report, "5"), best)


def test_atlas_and_figures(server):
    prompt = {
        "1": load("none"),
        "2": node("TesseraExamplePicture", picture="photograph.jpg"),
        "3": node("TesseraEncodeCanvas", vqgan=["1", 1], image=["2", 0]),
        "4": node("TesseraCodebookAtlas", vqgan=["1", 1], order="use", canvas=["3", 0]),
        "5": node("TesseraDecodeCanvas", vqgan=["1", 1], canvas=["3", 0]),
        "6": node("TesseraComparePictures", a=["2", 0], b=["5", 0]),
        "7": node("TesseraEncodeCanvas", vqgan=["1", 1], image=["5", 0]),
        "8": node("TesseraCompareCanvases", a=["3", 0], b=["7", 0]),
        "9": node("PreviewAny", source=["6", 0]),
        "10": node("PreviewAny", source=["8", 0]),
        "11": node("PreviewAny", source=["4", 2]),
    }
    report = server.run(prompt)
    assert report.status == "success", report.error
    assert server.pictures(report, "4").shape == (1, 16, 16, 3)
    decibels, agreement, perplexity = (float(report.outputs[n]["text"][0]) for n in ("9", "10", "11"))
    assert 0 < decibels < 40
    assert 0 <= agreement <= 1
    assert 1 <= perplexity <= 16


def test_saved_picture_gives_its_codes_and_its_workflow_back(server):
    prompt = {
        "1": load("none"),
        "2": node("TesseraSampleCodes", model=["1", 0], **SAMPLE),
        "3": node("TesseraSavePicture", vqgan=["1", 1], image=["2", 0], canvas=["2", 1], filename_prefix="kept/a"),
        "4": node("TesseraSaveCanvas", canvas=["2", 1], filename_prefix="kept/b"),
    }
    report = server.run(prompt)
    assert report.status == "success", report.error
    assert alike(server.pictures(report, "3"), server.pictures(report, "2"))
    path = server.folder / "output" / "kept" / "a_00002_.png"
    assert '"TesseraSampleCodes"' in Image.open(path).info["prompt"]
    assert read_note(path).canvas.indices.shape == (1, 4, 4)
    again = {
        "1": load("none"),
        "2": node("TesseraLoadCanvasOfPicture", file="kept/a_00002_.png [output]", vqgan=["1", 1]),
        "3": node("TesseraSaveCanvas", canvas=["2", 0], filename_prefix="kept/c"),
    }
    assert server.run(again).status == "success"
    folder = server.folder / "output" / "kept"
    before = load_canvas(folder / "b_00001_.canvas.safetensors")
    assert torch.equal(load_canvas(folder / "c_00001_.canvas.safetensors").indices, before.indices[1:])
    assert "decoded by another VQGAN" in server.run({**again, "1": load("coordinates")}).error
