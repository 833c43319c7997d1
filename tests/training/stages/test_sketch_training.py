"""The whole way from named drawings to a picture asked for by words, on two CPU seconds' worth of model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tessera.__main__ import main
from tessera.core.autoencoders.vqgan import VQGAN, VQGANConfig
from tessera.core.autoencoders.vqgan_file import save_vqgan
from tessera.core.conditions.sketch import Sketch
from tessera.core.loading import load_bundle, load_vqgan
from tessera.core.sampling.loop import sample
from tessera.core.sampling.settings import SamplingSettings
from tessera.training.config.runs import DataConfig, VQGANLossConfig, VQGANRun
from tessera.training.config.sketch import SketchRun
from tessera.training.config.yaml import load_config
from tessera.training.data.drawings import COLUMNS
from tessera.training.engine.log import read_csv
from tessera.training.engine.loop import make_accelerator
from tessera.training.engine.update import descend
from tessera.training.stages.image_terms import cell_color_difference, gradient_difference
from tessera.training.stages.sketch import open_sketch_task


@pytest.fixture
def run(tmp_path):
    """Arguments of a tiny run on eight disks and squares, two of them held out."""
    rows = []
    for number in range(8):
        pixels = np.zeros((32, 32, 4), np.uint8)
        name = ("disk", "square")[number % 2]
        y, x = np.mgrid[:32, :32] - 16
        inside = x**2 + y**2 < 100 + 10 * number if name == "disk" else np.maximum(abs(x), abs(y)) < 9 + number // 2
        pixels[inside] = (255, 30 * number, 0, 255)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        style = ("flat", "noto")[number // 4]
        rows.append((f"{number}.png", style, f"c{number}", name, "shape", "disco", "forma", str(int(number > 5))))
    table = "\n".join("\t".join(row) for row in (COLUMNS, *rows))
    (tmp_path / "captions.tsv").write_text(table, encoding="utf-8")
    torch.manual_seed(0)
    vqgan = VQGAN(
        VQGANConfig(
            channels=32, channel_mult=(1, 1, 1, 1, 1), blocks_per_level=1, attention_levels=(), latent_channels=8,
            codebook_size=16, code_dim=4,
        )
    )  # fmt: skip
    save_vqgan(tmp_path / "vqgan.safetensors", vqgan)
    (tmp_path / "run.yaml").write_text(
        f"output: {tmp_path / 'out'}\nvqgan: {tmp_path / 'vqgan.safetensors'}\ndata: {{folder: {tmp_path}, size: 32}}\n"
        "least: 2\nmodel: {layers: 3, width: 32, heads: 2, hidden: 32}\n"
        "loop: {steps: 30, batch: 8, learning_rate: 3.0e-3, warmup: 2, validate_every: 15, log_every: 10}\n",
        encoding="utf-8",
    )
    return ["train", "sketch", str(tmp_path / "run.yaml")]


def test_named_drawings_become_a_bundle_that_paints_what_is_asked_for(run, tmp_path):
    assert main(run) == 0
    figures = read_csv(tmp_path / "out" / "validation.csv")
    assert set(figures) >= {"nothing", "words", "colors", "lines"}
    bundle = load_bundle(tmp_path / "out" / "sketch.safetensors")
    assert bundle.vocabulary.styles == ("flat", "noto")
    words = bundle.vocabulary.read("a disk", 8).words
    condition = bundle.condition(Sketch(words=words, style=1, lines=torch.zeros(1, 1, 32, 32)))
    state = sample(bundle.prior, condition, bundle.empty_canvas(2), 0, SamplingSettings(guidance_scale=2.0))
    assert bundle.decode(state.canvas).shape == (2, 3, 32, 32)
    free = sample(bundle.prior, bundle.condition(), bundle.empty_canvas(1), 0, SamplingSettings())
    assert free.known.all()


def test_what_is_trained_is_measured_on_what_it_is_asked_for(run, tmp_path, capsys):
    small = ["--set", "loop.steps=2", "--set", "scenes.leaves=0"]
    assert main([*run, *small]) == 0
    capsys.readouterr()
    sheet = tmp_path / "sheet.png"
    assert main(["evaluate", *run[1:], *small, "--number", "4", "--json", "--sheet", str(sheet)]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert set(figures) >= {"nothing", "lines", "style_obeyed", "color_error", "edge_f1_guided", "disagreement"} | {
        "style_obeyed_emphasized"
    }
    assert all(0 <= figures[name] <= 1 for name in figures if name not in ("nothing", "words", "colors", "lines"))
    with Image.open(sheet) as drawn:
        assert drawn.width > drawn.height
    assert main(["evaluate", *run[1:], "--number", "4", "--set", "least=4"]) == 0  # the bundle's words count
    table = (tmp_path / "captions.tsv").read_text(encoding="utf-8")
    (tmp_path / "captions.tsv").write_text(table.replace("noto", "clay"), encoding="utf-8")
    assert main(["evaluate", *run[1:], "--number", "4"]) == 2
    assert "style 'clay' is unknown" in capsys.readouterr().err


def test_a_stopped_run_goes_on_to_the_same_weights(run, tmp_path):
    assert main([*run, "--set", f"output={tmp_path / 'whole'}"]) == 0
    assert main([*run, "--set", "loop.save_every=15", "--set", "loop.minutes=0.00001"]) == 0  # ends at once
    assert main(run) == 0
    whole, parts = (load_bundle(tmp_path / name / "sketch.safetensors").prior.state_dict() for name in ("whole", "out"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_muon_has_the_matrices_of_the_blocks_and_leaves_out_a_step_that_is_not_finite(run):
    settings = load_config(SketchRun, Path(run[2]), ["optimizer=muon"])
    accelerator = make_accelerator(settings.loop)
    task = open_sketch_task(settings, load_vqgan(settings.vqgan), accelerator)
    model = task.modules["model"]
    names = {parameter: name for name, parameter in model.named_parameters()}
    muon, adamw = (
        {names[p] for group in task.optimizers[kind].param_groups for p in group["params"]}
        for kind in ("blocks", "model")
    )
    assert muon == {name for name in names.values() if name.startswith("prior.layers.") and "norm" not in name}
    assert muon | adamw == set(names.values())
    assert not muon & adamw
    before = {name: parameter.clone() for parameter, name in names.items()}
    task.loss(task.painter.paint(2)).backward()
    descend(model, task.optimizers.values(), torch.tensor(torch.nan), 1.0, accelerator)
    assert all(torch.equal(before[name], parameter) for parameter, name in names.items())


def test_muon_learns_and_goes_on_to_the_same_weights(run, tmp_path):
    muon = [*run, "--set", "optimizer=muon", "--set", "loop.steps=12", "--set", "loop.log_every=4"]
    assert main([*muon, "--set", f"output={tmp_path / 'whole'}"]) == 0
    log = read_csv(tmp_path / "whole" / "train.csv")
    assert log["nll"][-1] < log["nll"][0]
    assert main([*muon, "--set", "loop.minutes=0.00001"]) == 0  # ends at once
    assert main(muon) == 0
    whole, parts = (load_bundle(tmp_path / name / "sketch.safetensors").prior.state_dict() for name in ("whole", "out"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert main([*muon, "--set", "loop.precision=fp16"]) == 2


@pytest.mark.slow
def test_a_first_stage_learns_from_scenes_of_the_same_drawings(run, tmp_path):
    """Before `quantize_start` no code is used; from there on they are, and red drawings come back red."""
    (tmp_path / "vqgan.yaml").write_text(
        f"output: {tmp_path / 'first'}\ndata: {{folder: {tmp_path}, size: 32}}\nscenes: {{white: 1.0}}\n"
        "model: {channels: 16, channel_mult: [1, 1], blocks_per_level: 1, attention_levels: [], latent_channels: 16,"
        " codebook_size: 32, code_dim: 4, codebook: ema, normalize_codes: true, norm_groups: 4}\n"
        "loss: {l2: 1.0, gradients: 0.5, ssim: 0.3, cell_colors: 1.0, perceptual: none, adversarial_weight: 0.0,"
        " quantize_start: 40}\n"
        "loop: {steps: 120, batch: 8, learning_rate: 4.0e-3, warmup: 5, ema: 0.9, validate_every: 40, log_every: 20}\n",
        encoding="utf-8",
    )
    assert main(["train", "vqgan", str(tmp_path / "vqgan.yaml")]) == 0
    log, held_out = read_csv(tmp_path / "first" / "train.csv"), read_csv(tmp_path / "first" / "validation.csv")
    assert {"gradients", "ssim", "cell_colors"} <= log.keys()
    assert log["codebook"][0] == 0 < log["codebook"][-1]
    assert held_out["psnr"][-1] > held_out["psnr"][0]
    vqgan = load_vqgan(tmp_path / "first" / "vqgan.safetensors")
    drawing = torch.ones(1, 3, 32, 32)
    drawing[:, 1:, 8:24, 8:24] = -1  # a red square on white
    made = vqgan(drawing).image[0, :, 10:22, 10:22].mean((1, 2))
    assert made[0] - made[1:].max() > 0.5


def test_color_of_areas_counts_on_the_opponent_axes_too():
    image = torch.zeros(1, 3, 32, 32)
    gray, red = image + 0.1, image.clone()
    red[:, 0] += 0.1
    assert cell_color_difference(image, gray, 16).item() == pytest.approx(0.1, abs=1e-6)  # both axes agree
    assert cell_color_difference(image, red, 16).item() == pytest.approx(0.1 / 3 + (0.1 + 0.05) / 2, abs=1e-6)
    assert gradient_difference(image, gray).item() < 1e-6  # the same lines: none


def test_codes_that_gradients_teach_cant_be_placed_later(run, tmp_path):
    with pytest.raises(ValueError, match="quantize_start"):
        VQGANRun(
            output="x", data=DataConfig(folder="x"), loss=VQGANLossConfig(quantize_start=5),
        )  # fmt: skip
