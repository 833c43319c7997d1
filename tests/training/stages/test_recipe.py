"""The shipped recipe in miniature: pictures, four trainings, figures, one file, pictures again. By the commands alone,
on the shipped configurations, with everything that costs time made small."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from tessera.__main__ import main
from tessera.core.images.metrics import psnr
from tessera.core.loading import load
from tessera.training.config.runs import DataConfig
from tessera.training.data.folder import ImageViews, find_images

from ..conftest import ROOT

pytestmark = pytest.mark.slow

CONFIGS = ROOT / "training" / "configs"
SMALL = ["data.size=64", "loop.precision=no", "loop.batch=8", "loop.warmup=5", "loop.log_every=10"]
SMALL_MODEL = ["model.channel_mult=[1, 1, 1]", "model.codebook_size=32", "model.latent_channels=32"]
SMALL_VQGAN = [*SMALL_MODEL, "loop.steps=150", "loop.validate_every=75", "loop.learning_rate=2e-3"]
SMALL_DECODER = [*SMALL_MODEL, "loop.steps=20", "loop.learning_rate=2e-4", "loss.discriminator_channels=8",
                 "loss.adversarial_start=5", "loss.adversarial_ramp=5"]  # fmt: skip


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    """40 drawings of 64x64 pixels on a transparent ground: a disc, a box or a triangle, each in one of four colors."""
    folder = tmp_path_factory.mktemp("drawings")
    for i in range(40):
        picture = Image.new("RGBA", (64, 64))
        pen, color = ImageDraw.Draw(picture), ("#d03020", "#20a040", "#2050c0", "#e0b020")[i % 4]
        left, top, right, bottom = 6 + i % 7, 8 + i % 5, 50 + i % 9, 52 + i % 6
        match i % 3:
            case 0:
                pen.ellipse([left, top, right, bottom], fill=color, outline="black", width=2)
            case 1:
                pen.rectangle([left, top, right, bottom], fill=color, outline="black", width=2)
            case 2:
                pen.polygon([(left, bottom), (right, bottom), (32, top)], fill=color, outline="black", width=2)
        picture.save(folder / f"drawing-{i:02d}.png")
    return folder


def white_paper(folder: Path) -> float:
    """PSNR of empty paper for the drawings, in dB."""
    data = DataConfig(folder=str(folder), size=64)
    views = ImageViews(find_images(data), data, 0, augment=False)
    pictures = torch.stack([views[0, i]["color"] for i in range(len(views))])
    return psnr(torch.ones_like(pictures), pictures).mean().item()


def test_the_shipped_recipe_from_pictures_to_pictures(drawings, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def command(*words: str, settings: list[str] = ()) -> str:
        overrides = [word for setting in settings for word in ("--set", setting)]
        assert main([*map(str, words), *overrides]) == 0
        return capsys.readouterr().out

    common = [f"data.folder={drawings}", *SMALL]
    for name in ("emoji-vqgan", "emoji-edges"):
        command("train", "vqgan", CONFIGS / f"{name}.yaml", settings=[*common, *SMALL_VQGAN])
    command("train", "vqgan", CONFIGS / "emoji-decoder.yaml", settings=[*common, *SMALL_DECODER])
    prior = [*common, "views=2", "model.layers=2", "model.width=64", "loop.steps=80", "loop.validate_every=40"]
    command("train", "prior", CONFIGS / "emoji-prior.yaml", settings=prior)

    picture = json.loads(command("evaluate", "vqgan", CONFIGS / "emoji-vqgan.yaml", "--json", settings=common))
    assert picture["psnr"] > white_paper(drawings) + 2
    assert picture["usage"] > 0.3
    codes = json.loads(command("evaluate", "prior", CONFIGS / "emoji-prior.yaml", "--json", settings=prior))
    assert codes["below_unigram"] > 0.1
    assert codes.keys() >= {"nll", "edge_f1", "edge_f1_shuffled", "edge_f1_guided", "disagreement_1.0"}

    bundle = tmp_path / "shapes.safetensors"
    parts = ("--vqgan", "runs/emoji-decoder/vqgan.safetensors", "--prior", "runs/emoji-prior/prior.safetensors")
    command("bundle", *parts, "--condition", "runs/emoji-edges/vqgan.safetensors", "--output", bundle)
    assert load(bundle).condition_config.kind == "edges"
    shown = sorted(drawings.iterdir())[0]
    command("demo", "--bundle", bundle, "--picture", shown, "--drawing", "--samples", "2", "--temperature", "0.5")
    made = [Image.open(path) for path in (tmp_path / "out" / "demo").glob("drawing-00-*.png")]
    assert len(made) == 2
    for picture in made:
        assert picture.size == (64, 64)
        assert len(picture.getcolors(64 * 64)) > 10  # no single color
