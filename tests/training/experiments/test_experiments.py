"""Every experiment runs from pictures to a document, and a second call trains nothing again."""

import json

import pytest
import torch

from tessera.__main__ import main
from tessera.core.autoencoders.vqgan import VQGAN, VQGANConfig
from tessera.core.bundle import Bundle
from tessera.core.bundle_file import save_bundle
from tessera.core.conditions.kinds import ConditionConfig
from tessera.core.priors.transformer import Transformer, TransformerConfig
from tessera.training.experiments.intervals import bootstrap, kernel_distance
from tessera.training.experiments.result import Claim


def edges_bundle() -> Bundle:
    """A small random bundle guided by edges, with cells of 16 pixels."""
    torch.manual_seed(0)
    shape = {"channels": 32, "channel_mult": (1, 1, 1, 1, 1), "blocks_per_level": 1, "attention_levels": ()}
    codes = {"latent_channels": 8, "codebook_size": 64, "code_dim": 4}
    color, edges = (VQGAN(VQGANConfig(image_channels=channels, **shape, **codes)).eval() for channels in (3, 1))
    config = TransformerConfig(
        layers=1, width=32, heads=2, codebook_size=64, vocab_size=128, prefix_length=16, window=4
    )
    return Bundle(color, Transformer(config), ConditionConfig(kind="edges", offset=64), edges)


def run(name, pictures, tmp_path):
    output, document, vqgan = tmp_path / "runs", tmp_path / "experiments.md", tmp_path / "edges.safetensors"
    if not vqgan.exists():
        save_bundle(vqgan, edges_bundle())
    arguments = ["--size", "tiny", "--output", str(output), "--document", str(document), "--vqgan", str(vqgan)]
    assert main(["experiment", name, str(pictures), *arguments]) == 0
    return json.loads((output / f"{name}.json").read_text()), document.read_text()


def test_priors_are_compared_and_not_trained_twice(pictures, tmp_path):
    tree, document = run("priors", pictures, tmp_path)
    assert [row["system"] for row in tree["rows"][:3]] == [
        "transformer, equal steps", "transformer, equal time", "PixelSNAIL",
    ]  # fmt: skip
    assert len(tree["verdicts"]) == 4
    assert "| S-FLCKR, 310M | 4.49 | 4.57 | 4.64 |" in document
    weights = sorted((tmp_path / "runs").rglob("prior.safetensors"))
    times = [path.stat().st_mtime_ns for path in weights]
    assert run("priors", pictures, tmp_path)[0] == tree
    assert sorted((tmp_path / "runs").rglob("prior.safetensors")) == weights
    assert [path.stat().st_mtime_ns for path in weights] == times


@pytest.mark.parametrize(
    ("name", "systems", "shows"),
    [
        ("first-stages", 4, True),
        ("orders", 2, False),
        ("completions", 2, True),
        ("control", 2, True),
        ("blocks", 4, False),
    ],
)
def test_an_experiment_runs_to_its_table(name, systems, shows, pictures, tmp_path):
    tree, document = run(name, pictures, tmp_path)
    assert len(tree["rows"]) == systems
    assert tree["setting"] in document
    assert (tmp_path / "runs" / f"{name}.jpg").is_file() == shows


def test_an_interval_decides_only_what_is_sure():
    clear, unsure = torch.full((50,), -0.5), torch.linspace(-1, 1, 50)
    assert Claim("It wins.", "a minus b", bootstrap(clear)).verdict.startswith("Holds")
    assert Claim("It wins.", "a minus b", bootstrap(-clear)).verdict.startswith("Does not hold")
    assert Claim("It wins.", "a minus b", bootstrap(unsure)).verdict.startswith("Not decided")


def test_the_kernel_distance_is_near_zero_for_one_distribution_and_not_for_two():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(300, 8, generator=generator) for _ in range(2))
    assert abs(kernel_distance(a, b)) < 0.05
    assert kernel_distance(a, b + 1) > 0.5
