import numpy as np
import pytest
from PIL import Image

from tessera import __main__ as command_line
from tessera.benchmarks.guide import QUICK, QUICK_CLIP, random_models
from tessera.core.autoencoders.vqgan_file import save_vqgan
from tessera.core.bundle_file import save_bundle
from tessera.core.clip.clip_file import save_clip


@pytest.fixture
def paint(tmp_path):
    """The command with tiny models; gives its exit code."""
    vqgan, clip = random_models(QUICK, QUICK_CLIP)
    save_vqgan(tmp_path / "vqgan.safetensors", vqgan)
    save_clip(tmp_path / "clip.safetensors", clip)
    models = ["--vqgan", str(tmp_path / "vqgan.safetensors"), "--clip", str(tmp_path / "clip.safetensors")]
    small = ["--size", "16", "--steps", "2", "--views", "2"]
    return lambda *arguments: command_line.main(["paint", *models, *small, *map(str, arguments)])


def test_words_become_a_picture_file_with_a_judge(paint, tmp_path, capsys):
    again = tmp_path / "again.png"
    assert (
        paint("a cat:2 | a dog:-1", "--output", tmp_path / "deep" / "cat.png", "--judge", tmp_path / "clip.safetensors")
        == 0
    )
    said = capsys.readouterr().out
    assert "2 steps, about" in said
    assert said.splitlines()[-1].endswith(" a dog")
    assert Image.open(tmp_path / "deep" / "cat.png").size == (16, 16)
    assert paint("a cat", "--output", again, "--begin", tmp_path / "deep" / "cat.png", "--hold", 1) == 0
    assert again.is_file()


def test_a_model_that_paints_by_itself_makes_the_beginning(paint, tmp_path, make_bundle, capsys):
    save_bundle(tmp_path / "bundle.safetensors", make_bundle("none"))
    model = ["--vqgan", tmp_path / "bundle.safetensors", "--free", 3]
    assert paint("a cat", "--output", tmp_path / "cat.png", *model) == 0
    assert Image.open(tmp_path / "cat.png").size == (16, 16)
    assert paint("a cat", "--output", tmp_path / "dog.png", "--free", 2) == 2
    assert "vqgan.safetensors holds vqgan, not a" in capsys.readouterr().err


def test_scenes_become_a_film(paint, tmp_path):
    av = pytest.importorskip("av")
    assert paint("a cat ^ a dog", "--output", tmp_path / "film.mp4", "--frames", 3, "--frame-steps", 1) == 0
    with av.open(str(tmp_path / "film.mp4")) as film:
        assert len(list(film.decode(video=0))) == 3


def test_what_can_not_be_painted_is_told_in_a_sentence(paint, tmp_path, capsys, monkeypatch):
    assert paint(" ", "--output", tmp_path / "a.png") == 2
    assert "prompt is empty" in capsys.readouterr().err
    assert paint("a ^ b", "--output", tmp_path / "a.png") == 2
    assert "make a film" in capsys.readouterr().err
    monkeypatch.setattr("tessera.training.commands.paint.find_spec", lambda name: None)  # as where it is not installed
    assert paint("a ^ b", "--output", tmp_path / "a.mp4") == 2
    assert "pip install av" in capsys.readouterr().err
    assert not [*tmp_path.glob("*.png"), *tmp_path.glob("*.mp4")]


def test_the_embedded_models_begin_with_the_colors_of_the_words(tmp_path):
    for words in ("strawberry", "frog"):
        small = ["--size", "128", "--steps", "1", "--views", "2", "--rate", "0.001", "--free", "3"]
        assert command_line.main(["paint", words, *small, "--output", str(tmp_path / f"{words}.png")]) == 0
    red, green = (np.asarray(Image.open(tmp_path / f"{words}.png")).mean((0, 1)) for words in ("strawberry", "frog"))
    assert red[0] - red[1] > green[0] - green[1] + 20
