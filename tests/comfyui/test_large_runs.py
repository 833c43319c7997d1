"""Canvases larger than the window in a real ComfyUI: sliding, wrapping, planning, super-resolution, scene layouts."""

import re

import numpy as np
import torch

from tessera.core.bundle_file import load_bundle
from tessera.core.canvas.canvas import Canvas
from tessera.core.canvas.canvas_file import load_canvas
from tessera.core.canvas.codec import decode_canvas
from tessera.core.sampling.loop import sample
from tessera.core.sampling.settings import SamplingSettings
from tessera.core.sampling.windows import Sliding

PLAN = r"\d+ cells through \d+ windows: about \d+ s, \d+ MB"


def node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs}


def wide(**changes) -> dict:
    """A canvas of 6 x 20 cells that wraps left and right, and its tile preview."""
    return {
        "1": node("TesseraLoadBundle", file="none.safetensors"),
        "2": node("TesseraEmptyCanvas", vqgan=["1", 1], width=80, height=24),
        "3": node("TesseraSlidingWindow", stride="2", wrap="x"),
        "4": node(
            "TesseraSampleCodes", model=["1", 0], canvas=["2", 0], sliding=["3", 0],
            **{"seed": 3, "pictures": 1, "preview_every": 10, **changes},
        ),
        "5": node("TesseraTilePreview", image=["4", 0], across=2, down=1),
        "6": node("TesseraSaveCanvas", canvas=["4", 1], filename_prefix="wide"),
        "7": node("TesseraPlanRun", model=["1", 0], pictures=1, canvas=["2", 0], sliding=["3", 0]),
    }  # fmt: skip


def test_panorama_is_what_core_makes_and_its_plan_is_told(server, tiny_models):
    report = server.run(wide())
    assert report.status == "success", report.error
    bundle = load_bundle(tiny_models / "vq_transformer" / "none.safetensors")
    sliding = Sliding(stride=2)
    canvas = Canvas.empty(1, 6, 20).with_wrap("x")
    state = sample(bundle.prior, bundle.condition(), canvas, 3, SamplingSettings(), sliding)
    expected = decode_canvas(bundle.vqgan, state.canvas).movedim(1, -1)
    expected = ((expected + 1) / 2 * 255).numpy().astype(np.uint8)
    made, tiled = server.pictures(report, "4"), server.pictures(report, "5")
    assert np.abs(made.astype(int) - expected).max() <= 1
    assert tiled.shape == (1, 24, 160, 3)
    assert np.array_equal(tiled[:, :, 80:], made)
    saved = load_canvas(server.folder / "output" / "wide_00001_.canvas.safetensors")
    assert (saved.wrap, bool(torch.equal(saved.indices, state.indices))) == ("x", True)
    texts = dict(report.texts)
    assert re.fullmatch(PLAN, texts["4"]) or "in strips" in texts["4"]
    assert any(re.fullmatch(PLAN, text) for who, text in report.texts if who == "4")
    assert any("Decoding 80x24 pixels in strips" in text for who, text in report.texts if who == "4")
    (line,) = report.outputs["7"]["text"]
    assert re.fullmatch(PLAN, line)
    cells = int(line.split()[0])
    assert (cells, cells) in report.progress


def test_cancelled_panorama_goes_on_and_only_as_it_was(server):
    prompt = wide(seed=4, preview_every=0)
    prompt["2"]["inputs"].update(width=160, height=160)
    cut = server.run(prompt, interrupt_after_progress=2)
    assert cut.status == "error"
    recalled = {
        "1": node("TesseraRecallCanvas"),
        "2": node("TesseraSaveCanvas", canvas=["1", 0], filename_prefix="wide_cut"),
    }
    assert server.run(recalled).status == "success"
    partial = load_canvas(sorted((server.folder / "output").glob("wide_cut_*.canvas.safetensors"))[-1])
    assert partial.wrap == "x"
    rest = server.run(prompt)
    assert rest.status == "success"
    assert rest.progress[-1][1] == cut.progress[-1][1] - int(partial.known.sum())


def test_width_that_can_not_wrap_gets_one_sentence(server):
    prompt = wide()
    prompt["2"]["inputs"]["width"] = 78  # refused by the widget's step only in the page
    report = server.run(prompt)
    assert "the picture ends within a cell, so it can't wrap (x); make its width a multiple of a cell" in report.error
    assert "\n" not in report.error


def test_small_picture_of_any_size_becomes_a_larger_one(server):
    prompt = {
        "1": node("TesseraLoadBundle", file="low-resolution.safetensors"),  # twice as large
        "2": node("TesseraExamplePicture", picture="drawing.png"),
        "3": node("ImageScale", image=["2", 0], upscale_method="lanczos", width=28, height=20, crop="center"),
        "4": node("TesseraLowResolution", model=["1", 0], image=["3", 0], size="original size"),
        "5": node("TesseraSlidingWindow", stride="2", wrap="none"),
        "6": node(
            "TesseraSampleCodes", model=["1", 0], condition=["4", 0], sliding=["5", 0], seed=0, pictures=1,
            preview_every=0,
        ),
    }  # fmt: skip
    report = server.run(prompt)
    assert report.status == "success", report.error or report.refused
    assert server.pictures(report, "6").shape == (1, 40, 56, 3)


def test_boxes_guide_a_picture_and_are_shown(server):
    prompt = {
        "1": node("TesseraLoadBundle", file="layout.safetensors"),
        "2": node("TesseraLayout", model=["1", 0], boxes="2 0 0.5 1 0.5\n7 0.2 0.2 0.5 0.5", width=32, height=16),
        "3": node("TesseraSampleCodes", model=["1", 0], condition=["2", 0], seed=0, pictures=2, preview_every=0),
    }
    report = server.run(prompt)
    assert report.status == "success", report.error
    assert server.pictures(report, "3").shape == (2, 16, 32, 3)
    assert server.pictures(report, "2").std() > 5
    prompt["2"]["inputs"]["boxes"] = "cat 0 0 1 1"
    assert "line 1 of the boxes is 'cat 0 0 1 1'; write label left top width height" in server.run(prompt).error


def test_pictures_are_compared_without_lpips_and_with(server):
    prompt = {
        "1": node("TesseraExamplePicture", picture="drawing.png"),
        "2": node("ImageInvert", image=["1", 0]),
        "3": node("TesseraComparePictures", a=["1", 0], b=["2", 0], with_lpips=False),
        "4": node("TesseraComparePictures", a=["1", 0], b=["2", 0], with_lpips=True),
    }
    report = server.run(prompt)
    assert report.status == "success", report.error
    (without,), (complete,) = report.outputs["3"]["text"], report.outputs["4"]["text"]
    assert re.fullmatch(r"PSNR [\d.]+ dB, SSIM -?[\d.]+, LPIPS not measured", without)
    assert re.search(r"LPIPS ([\d.]+$|can't be had here)", complete)
