"""The first stage of maps: a VQGAN learns depth or labels that lie beside pictures."""

import numpy as np
import pytest
from PIL import Image

from tessera.__main__ import main
from tessera.core.autoencoders.vqgan_file import read_vqgan
from tessera.training.config.runs import VQGANRun
from tessera.training.config.yaml import build
from tessera.training.engine.log import read_csv

LABELS = 3


@pytest.fixture
def maps(pictures, tmp_path):
    """The folder of a map for each picture: three stripes of other widths each, as labels."""
    folder = tmp_path / "maps"
    folder.mkdir()
    for number, path in enumerate(sorted(pictures.iterdir())):
        labels = np.zeros((48, 40), np.uint8)
        labels[:, 8 + number % 6 :] = 1
        labels[:, 24 + number % 8 :] = 2
        Image.fromarray(labels).save(folder / path.name)
    return folder


@pytest.mark.parametrize("kind", ["segmentation", "depth"])
def test_a_first_stage_learns_the_maps_of_pictures(tiny_tree, write_yaml, maps, tmp_path, kind):
    channels = LABELS if kind == "segmentation" else 1
    condition = {"kind": kind, "folder": str(maps)} | ({"labels": LABELS} if kind == "segmentation" else {})
    tree = tiny_tree(
        data={"picture": "condition"},
        condition=condition,
        model={"image_channels": channels},
        loss={"l1": 0.0, "bce": 1.0} if kind == "segmentation" else {},
        loop={"steps": 24, "validate_every": 8, "learning_rate": 1e-2},
    )
    config = str(write_yaml(tree))
    assert main(["train", "vqgan", config]) == 0
    figures = read_csv(tmp_path / "run" / "validation.csv")
    name = "labels_right" if kind == "segmentation" else "psnr"
    assert figures[name][-1] > figures[name][0]
    assert set(figures) >= {name, "usage", "perplexity"}
    assert ("psnr" in figures) == (kind == "depth")
    assert read_vqgan(tmp_path / "run" / "vqgan.safetensors").config.image_channels == channels
    strip = Image.open(tmp_path / "run" / "pictures" / "reconstruction-0000024.png")
    assert strip.height == 64
    assert main(["evaluate", "vqgan", config, "--json"]) == 0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"data": {"picture": "condition"}}, r"data\.picture is condition and condition\.kind none"),
        ({"condition": {"kind": "depth", "folder": "x"}}, r"data\.picture is color and condition\.kind depth"),
        (
            {"condition": {"kind": "segmentation", "folder": "x", "labels": 3}, "data": {"picture": "condition"},
             "model": {"image_channels": 3}},
            r"loss\.bce is 0\.0 and condition\.kind segmentation; label maps are learned with loss\.bce=1",
        ),
    ],
)  # fmt: skip
def test_settings_of_maps_that_do_not_go_together_are_refused(tiny_tree, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        build(VQGANRun, tiny_tree(**changes), "")
