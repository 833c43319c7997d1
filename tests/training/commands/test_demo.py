"""The demo with the embedded model: what a newcomer sees first."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tessera.__main__ import main
from tessera.core.bundle_file import load_bundle, save_bundle
from tessera.core.storage.model_file import read_model_file
from tessera.training.commands.demo import BUNDLE, DRAWING, PHOTOGRAPH, named


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a whole demo, fewer samples than by default."""
    folder = tmp_path_factory.mktemp("demo")
    assert main(["demo", "--samples", "2", "--temperature", "0.5", "1.0", "--output", str(folder)]) == 0
    return folder


def test_the_embedded_bundle_says_where_it_comes_from_and_what_it_knows():
    file = read_model_file(BUNDLE)
    assert "Twemoji" in file.trained_on
    assert "CC-BY-4.0" in file.license
    bundle = load_bundle(BUNDLE)
    assert bundle.condition_config.kind == "sketch"
    assert (len(bundle.vocabulary.styles), len(bundle.vocabulary.words)) == (11, 3723)
    assert bundle.image_size == 256


@pytest.mark.slow
def test_each_input_gives_its_pictures_at_each_temperature_and_a_sheet(made):
    names = {path.name for path in made.iterdir()}
    assert names == {"contact-sheet.png"} | {
        f"{path.stem}-t{temperature}-seed{seed}.png"
        for path in (PHOTOGRAPH, DRAWING) for temperature in ("0.5", "1") for seed in (0, 1)
    }  # fmt: skip
    assert Image.open(made / "drawing-t1-seed1.png").size == (256, 256)


@pytest.mark.slow
def test_pictures_are_colorful_and_follow_seed_and_input(made):
    first, second, other = (
        pixels(made / f"{n}.png") for n in ("drawing-t1-seed0", "drawing-t1-seed1", "photograph-t1-seed0")
    )
    assert np.abs(first - second).mean() > 3
    assert np.abs(first - other).mean() > 10
    assert first.std((0, 1)).max() > 30  # not one color; a yellow drawing on white has red everywhere
    assert np.abs(first[..., 0] - first[..., 2]).mean() > 2  # not gray


@pytest.mark.slow
def test_the_same_seed_gives_the_same_picture_whatever_else_is_made(made, tmp_path):
    again = ["demo", "--samples", "1", "--temperature", "1.0", "--picture", "--seed", "1", "--output", str(tmp_path)]
    assert main(again) == 0
    assert np.array_equal(pixels(tmp_path / "drawing-t1-seed1.png"), pixels(made / "drawing-t1-seed1.png"))


@pytest.mark.slow
def test_words_decide_the_colors_of_a_drawing(made, tmp_path):
    alone = ["--samples", "2", "--temperature", "0.5", "--picture", "--output", str(tmp_path)]
    assert main(["demo", *alone, "--words", "frog"]) == 0
    red, green = (
        pixels(folder / "drawing-t0.5-seed0.png").mean((0, 1)) for folder in (made, tmp_path)
    )  # a strawberry, and what a frog's colors make of it
    assert red[0] - red[1] > green[0] - green[1] + 20


def test_a_model_of_edges_needs_no_words_and_refuses_them(make_bundle, tmp_path, capsys):
    save_bundle(tmp_path / "edges.safetensors", make_bundle("edges"))
    small = ["--samples", "1", "--temperature", "1", "--guidance", "1", "--output", str(tmp_path / "out")]
    asked = ["demo", "--bundle", str(tmp_path / "edges.safetensors"), *small]
    assert main(asked) == 0
    assert Image.open(tmp_path / "out" / "drawing-t1-seed0.png").size == (16, 16)
    assert main([*asked, "--words", "frog"]) == 2
    assert "the model knows no words" in capsys.readouterr().err


def test_inputs_of_one_name_keep_names_of_their_own():
    paths = [Path(p) for p in ("a/image.jpg", "b/image.jpg", "image-2.png", "cat.jpg")]
    drawings = [Path(p) for p in ("cat.png", "Cat.png", "cat.jpg")]
    found = named(paths, drawings)
    assert [name for name, _, _ in found] == ["image", "image-2", "image-2-2", "cat", "cat-2", "Cat-3", "cat-4"]
    assert [path for _, path, _ in found] == paths + drawings
    assert [drawn for _, _, drawn in found] == [False] * 4 + [True] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--samples", "0"], "--samples is 0; ask for at least 1"),
        (["--temperature", "-1"], "temperature -1.0 is out of range; choose 0 to 100"),
        (["--top-k", "-3"], "top_k is -3; choose a whole number from 1, or 0 for off"),
        (["--seed", "-1"], "seed -1 is out of range"),
        (["--picture", "nowhere.png"], "nowhere.png does not exist"),
        (["--picture", __file__], "can't be read as a picture"),
        (["--bundle", "nowhere.safetensors"], "nowhere.safetensors does not exist"),
        (["--bundle", __file__], "neither a torch checkpoint nor safetensors"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(arguments, message, tmp_path, capsys):
    assert main(["demo", *arguments, "--output", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert message in said[0]
    assert not (tmp_path / "out").exists()
