from dataclasses import replace

import pytest
import torch

from tessera.core.bundle_file import load_bundle
from tessera.core.calibration import scores_of_real
from tessera.core.canvas.canvas import Canvas
from tessera.core.conditions.edges import canny
from tessera.core.conditions.sketch import (
    Emphasis,
    Sketch,
    SketchConfig,
    SketchEncoder,
    sketch_condition,
    sketch_inputs,
    sketch_tokens,
)
from tessera.core.conditions.vocabulary import Vocabulary
from tessera.core.geometry import Window
from tessera.core.prefix import Prefix
from tessera.core.prepared import condition_agreement, prepare_sketch, prepare_unconditional
from tessera.core.sampling.checks import guided_by
from tessera.core.sampling.loop import sample
from tessera.core.sampling.reference import sample_plainly
from tessera.core.sampling.settings import SamplingSettings
from tessera.tests.core.worded_bundles import save_sketch_bundle


def test_tokens_are_style_then_words_by_number_then_nothing():
    tokens = sketch_tokens(Sketch(words=(7, 2), style=1), slots=4, first=100, styles=3, words=20)
    assert tokens.tolist() == [[101, 106, 111, 124, 124]]


def test_nothing_asked_for_is_the_last_number_of_each_part():
    assert sketch_tokens(Sketch(), slots=2, first=100, styles=3, words=20).tolist() == [[103, 124, 124]]


def test_more_words_than_there_is_room_for_are_refused():
    with pytest.raises(ValueError, match="3 words are asked for; give at most 2"):
        sketch_tokens(Sketch(words=(1, 2, 3)), slots=2, first=100, styles=3, words=20)


def test_colors_are_means_of_what_is_painted():
    picture = torch.full((1, 3, 64, 64), -1.0)
    picture[:, 0, :, :32] = 1.0  # the left half is red
    painted = torch.zeros(1, 1, 64, 64)
    painted[:, :, :32, 16:48] = 1.0
    _, colors = sketch_inputs(Sketch(colors=picture, colored=painted), 4, 4)
    assert colors.shape == (1, 4, 2, 2)
    assert colors[0, :, 0].tolist() == [[1, -1], [-1, -1], [-1, -1], [1, 1]]
    assert colors[0, :, 1].abs().sum() == 0  # not painted: not given


def test_lines_left_out_differ_from_no_lines():
    without, _ = sketch_inputs(Sketch(), 2, 2)
    empty, _ = sketch_inputs(Sketch(lines=torch.zeros(1, 1, 32, 32)), 2, 2)
    assert without.sum() == 0
    assert empty[:, 1].min() == 1


@pytest.mark.parametrize("size", [(4, 6), (5, 3)])
def test_control_covers_canvases_of_any_size(size):
    torch.manual_seed(0)
    encoder = SketchEncoder(SketchConfig(width=8, layers=2))
    sketch = Sketch(lines=torch.ones(1, 1, size[0] * 16, size[1] * 16), colors=torch.zeros(1, 3, 40, 40))
    assert encoder(*sketch_inputs(sketch, *size)).shape == (1, *size, 2, 8)


def test_a_window_sees_the_control_of_its_own_cells_and_nothing_asked_for_is_the_contrast():
    torch.manual_seed(0)
    encoder, vocabulary = SketchEncoder(SketchConfig(width=8, layers=2)), Vocabulary(("flat",), ("red", "sun"))
    sketch = Sketch(words=(1,), style=0, lines=torch.rand(1, 1, 96, 128).round())
    condition = sketch_condition(encoder, vocabulary, 2, 50, sketch, (6, 8))
    whole = condition.prefix(Window(0, 0, 6, 8))
    part = condition.prefix(Window(2, 3, 4, 4))
    assert part.tokens.tolist() == [[50, 53, 54]]
    assert torch.equal(part.per_cell, whole.per_cell.unflatten(1, (6, 8))[:, 2:6, 3:7].flatten(1, 2))
    free = condition.unconditional.prefix(Window(2, 3, 4, 4))
    assert free.tokens.tolist() == [[51, 54, 54]]
    assert not torch.equal(free.per_cell, part.per_cell)


def test_a_sketch_is_built_up_from_what_is_emphasized_least():
    lines, colors = torch.zeros(1, 1, 32, 32), torch.zeros(1, 3, 32, 32)
    sketch = Sketch(words=(1,), style=0, lines=lines, colors=colors, emphasis=Emphasis(words=0, style=2, colors=2))
    given = [(some.words, some.style, some.lines is lines, some.colors is colors) for some, _ in sketch.steps()]
    assert given == [((1,), None, False, False), ((1,), None, True, False), ((1,), 0, True, True)]
    assert [emphasis for _, emphasis in sketch.steps()] == [0, 1, 2]
    assert [emphasis for _, emphasis in Sketch(style=1, emphasis=Emphasis(words=3)).steps()] == [1]  # no words
    assert Sketch(emphasis=Emphasis(words=3)).steps() == []


@pytest.mark.parametrize("value", [-0.1, 10.5, float("nan")])
def test_emphasis_out_of_range_is_refused(value):
    with pytest.raises(ValueError, match=r"the emphasis of style is .*; choose 0 to 10"):
        Emphasis(style=value)


def test_guidance_goes_by_each_part_as_far_as_its_emphasis(tmp_path):
    save_sketch_bundle(tmp_path / "sketch.safetensors", window=2)
    bundle, size, guidance = load_bundle(tmp_path / "sketch.safetensors"), (2, 2), 3.0
    sketch = Sketch(words=(1,), style=0, colors=torch.ones(1, 3, 32, 32))
    plain = bundle.condition(sketch, size)
    emphasized = bundle.condition(replace(sketch, emphasis=Emphasis(words=0, style=2)), size)
    worded, colored = (
        bundle.condition(replace(sketch, **out), size) for out in ({"style": None, "colors": None}, {"style": None})
    )

    def likely(condition) -> torch.Tensor:
        seen = torch.tensor([[0, 1, 2]])
        return bundle.prior.start(Prefix.of(condition.prefix(Window(0, 0, 2, 2))), seen)[0].log_softmax(-1)

    def mixed(condition) -> torch.Tensor:
        conditions, counts = guided_by(condition, SamplingSettings(guidance_scale=guidance))
        assert sum(counts) == pytest.approx(1)
        return sum(count * likely(one) for one, count in zip(conditions, counts, strict=True))

    free = likely(plain.unconditional)
    torch.testing.assert_close(mixed(plain), free + 3 * (likely(plain) - free))
    wanted = likely(worded) + 3 * (likely(colored) - likely(worded)) + 5 * (likely(plain) - likely(colored))
    torch.testing.assert_close(mixed(emphasized), wanted)


def test_emphasis_paints_what_the_plainest_loop_paints_and_nothing_else_without_guidance(tmp_path):
    save_sketch_bundle(tmp_path / "sketch.safetensors", window=2)
    bundle = load_bundle(tmp_path / "sketch.safetensors")
    sketch = Sketch(words=(1,), style=0, colors=torch.ones(1, 3, 48, 64))
    some = replace(sketch, emphasis=Emphasis(words=0.5, style=3))
    plain, emphasized = (bundle.condition(one, (3, 4)) for one in (sketch, some))
    canvas = Canvas.empty(2, 3, 4)

    def codes(condition, guidance: float, paint=sample) -> torch.Tensor:
        return paint(bundle.prior, condition, canvas, 5, SamplingSettings(guidance_scale=guidance)).indices

    guided = codes(emphasized, 2.5)
    assert torch.equal(guided, codes(emphasized, 2.5, sample_plainly))
    assert not torch.equal(guided, codes(plain, 2.5))
    assert torch.equal(codes(emphasized, 1.0), codes(plain, 1.0))


def test_lines_of_another_size_than_the_canvas_are_refused():
    encoder = SketchEncoder(SketchConfig(width=8, layers=1))
    with pytest.raises(ValueError, match=r"lines are 32x48 pixels, a canvas of 4x4 cells needs 64x64"):
        sketch_condition(encoder, Vocabulary((), ()), 2, 50, Sketch(lines=torch.zeros(1, 1, 48, 32)), (4, 4))


def test_a_word_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="words 0 to 1; give one of these"):
        sketch_tokens(Sketch(words=(2,)), 2, 50, 1, 2)


def test_a_picture_agrees_with_the_lines_of_its_sketch_or_else_with_its_colors(tmp_path):
    save_sketch_bundle(tmp_path / "sketch.safetensors", window=2)
    bundle = load_bundle(tmp_path / "sketch.safetensors")
    picture = torch.ones(1, 3, 58, 90)
    picture[:, 1:, 8:40, 16:60] = -1  # a red square on white; sides that are no multiples of a cell
    lines, other = canny(picture) / 2 + 0.5, picture.flip(1)

    def agreements(sketch: Sketch) -> list[float]:
        prepared = prepare_sketch(bundle, sketch)
        return condition_agreement(bundle, prepared, torch.cat([picture, other, picture.roll(24, 3)])).tolist()

    same, recolored, moved = agreements(Sketch(lines=lines, colors=picture))
    assert same == 1
    assert min(same, recolored) > 0.9 > 0.6 > moved
    same, recolored, moved = agreements(Sketch(colors=picture))
    assert same == pytest.approx(1)
    assert same > recolored + 0.05
    assert same > moved + 0.05
    with pytest.raises(ValueError, match="neither lines nor colors"):
        agreements(Sketch(style=1))


def test_what_real_images_reach_is_told_of_sketches_too_and_nothing_needs_to_be_given(tmp_path):
    save_sketch_bundle(tmp_path / "sketch.safetensors", window=2)
    bundle = load_bundle(tmp_path / "sketch.safetensors")
    scores = scores_of_real(bundle, torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    assert set(scores) == {"likelihood", "agreement", "free_likelihood"}
    assert all(((score >= 0) & (score <= 1)).all() for score in scores.values())
    asked = bundle.sample(Sketch(style=1, colors=torch.ones(1, 3, 32, 32)), batch=2, seed=3)
    assert asked.images.shape == (2, 3, 32, 32)
    free = bundle.sample(prepare_unconditional(bundle, None).condition, seed=3)
    assert torch.equal(free.canvas.indices, bundle.sample(seed=3).canvas.indices)


def test_one_drawing_is_colored_in_several_ways(tmp_path):
    save_sketch_bundle(tmp_path / "sketch.safetensors", window=2)
    bundle = load_bundle(tmp_path / "sketch.safetensors")
    lines, colors = torch.eye(32)[None, None], torch.stack([torch.ones(3, 8, 8), -torch.ones(3, 8, 8)])
    both = bundle.condition(Sketch(lines=lines, colors=colors))
    alone = [bundle.condition(Sketch(lines=lines, colors=one[None])) for one in colors]
    torch.testing.assert_close(both.control, torch.cat([one.control for one in alone]))
    assert not torch.equal(*both.control)
    assert len(bundle.sample(both, batch=2).images) == 4
