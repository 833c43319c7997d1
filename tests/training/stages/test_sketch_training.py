"""The whole way from named drawings to a picture asked for by words, on two CPU seconds' worth of model."""

import numpy as np
import pytest
import torch
from PIL import Image

from tessera.__main__ import main
from tessera.core.autoencoders.vqgan import VQGAN, VQGANConfig
from tessera.core.autoencoders.vqgan_file import save_vqgan
from tessera.core.conditions.sketch import Sketch
from tessera.core.loading import load_bundle
from tessera.core.sampling.loop import sample
from tessera.core.sampling.settings import SamplingSettings
from tessera.training.data.drawings import COLUMNS
from tessera.training.engine.log import read_csv


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


def test_a_stopped_run_goes_on_to_the_same_weights(run, tmp_path):
    assert main([*run, "--set", f"output={tmp_path / 'whole'}"]) == 0
    assert main([*run, "--set", "loop.save_every=15", "--set", "loop.minutes=0.00001"]) == 0  # ends at once
    assert main(run) == 0
    whole, parts = (load_bundle(tmp_path / name / "sketch.safetensors").prior.state_dict() for name in ("whole", "out"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
