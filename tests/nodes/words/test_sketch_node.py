"""A picture asked for by words, style, lines and colors through the nodes, each of which may be left out."""

import pytest
import torch

from tessera.core.canvas.canvas import Canvas
from tessera.core.sampling.settings import SamplingSettings
from tessera.nodes import NODES
from tessera.tests.core.worded_bundles import save_sketch_bundle


def node(name: str):
    return next(one for one in NODES if one.define_schema().node_id == name)


@pytest.fixture
def model(host, tmp_path):
    from tessera.nodes.host.comfy import register_model_folders

    register_model_folders()
    path = tmp_path / "models" / "vq_transformer" / "sketch.safetensors"
    path.parent.mkdir(parents=True)
    save_sketch_bundle(path, window=2)
    return node("TesseraLoadBundle").execute(path.name)[0]


def ask(model, words="", style="any", size="original size", **pictures):
    return node("TesseraSketch").execute(model, words, style, "lines", size, **pictures)


def codes(model, condition, **settings) -> torch.Tensor:
    made = node("TesseraSampleCodes").execute(model, 3, 1, 0, condition, **settings).args
    return next(one for one in made if isinstance(one, Canvas)).indices


def test_each_part_that_is_asked_for_changes_the_picture(model):
    lines = torch.zeros(1, 64, 96, 3)
    lines[:, ::8] = 1.0
    red = torch.zeros(1, 64, 96, 3)
    red[..., 0] = 1.0
    asked = [
        ask(model, lines=lines)[0],
        ask(model, lines=lines, words="fresa")[0],
        ask(model, lines=lines, style="noto")[0],
        ask(model, lines=lines, colors=red)[0],
        ask(model, lines=lines, colors=red, colored=torch.zeros(1, 64, 96))[0],
    ]
    made = [codes(model, condition) for condition in asked]
    assert all(canvas.shape == (1, 4, 6) for canvas in made)
    changed = [int((made[0] != other).sum()) for other in made[1:4]]
    assert all(changed), changed
    assert torch.equal(made[0], made[4])  # nothing is colored: no color is asked for


def test_emphasis_changes_the_picture_where_there_is_guidance(model):
    asked, stronger = {"words": "fresa", "style": "noto"}, node("TesseraEmphasis").execute(1.0, 4.0, 1.0, 1.0)[0]
    plain, styled = ask(model, **asked)[0], ask(model, **asked, emphasis=stronger)[0]
    guided = {"settings": SamplingSettings(guidance_scale=3.0)}
    assert not torch.equal(codes(model, plain, **guided), codes(model, styled, **guided))
    assert torch.equal(codes(model, plain), codes(model, styled))


def test_english_and_spanish_words_are_the_same_and_what_is_not_known_is_said(model, monkeypatch):
    from tessera.nodes.host import comfy

    said = []
    monkeypatch.setattr(comfy, "say", said.append)
    english, spanish = (ask(model, words)[0].condition for words in ("a red strawberry", "fresa, red"))
    assert torch.equal(english.tokens, spanish.tokens)
    assert said == []
    ask(model, "strawbery xylophone")
    assert said == ["strawbery is taken for strawberry; unknown to this model and left out: xylophone"]
    ask(model)
    assert "paints freely" in said[-1]


def test_what_the_model_sees_is_shown_as_large_as_the_picture(model):
    lines = torch.zeros(1, 40, 64, 3)  # no multiple of the stride
    lines[:, 20] = 1.0
    blue = torch.zeros(1, 40, 64, 3)
    blue[..., 2] = 1.0
    condition, seen = ask(model, lines=lines, colors=blue).args
    assert condition.canvas.size == (3, 4)
    assert seen[0, 20, 30].tolist() == [1, 1, 1]
    assert seen[0, 5, 30].tolist() == [0, 0, 1]


def test_an_unknown_style_and_pictures_that_do_not_go_together_are_refused(model):
    with pytest.raises(ValueError, match="style 'cubist' is unknown; choose one of flat, noto"):
        ask(model, style="cubist")
    with pytest.raises(ValueError, match="lines and colors differ"):
        ask(model, lines=torch.zeros(1, 64, 64, 3), colors=torch.zeros(1, 64, 96, 3))
