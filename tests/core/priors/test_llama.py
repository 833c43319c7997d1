"""Llama-style priors do all that the sampling loop asks for; their numbers are compared in test_llamagen."""

import pytest
import torch

from tessera.core.canvas.canvas import Canvas
from tessera.core.conditions.base import TokenCondition
from tessera.core.conditions.control import ControlledCondition
from tessera.core.conditions.label import ClassCondition
from tessera.core.conditions.text import TextCondition
from tessera.core.geometry import Window
from tessera.core.prefix import Prefix
from tessera.core.priors.llama import Llama, LlamaConfig
from tessera.core.sampling.loop import sample
from tessera.core.sampling.reference import sample_plainly
from tessera.core.sampling.settings import SamplingSettings

TINY = {"layers": 2, "width": 64, "heads": 1, "hidden": 64, "codebook_size": 32, "window": 4}
WINDOW = Window(0, 0, 4, 4)


def decided(prior: Llama) -> Llama:
    """A prior whose codes depend much on what it sees."""
    with torch.no_grad():
        for number, weights in enumerate(prior.parameters()):
            if weights.ndim > 1:
                weights.normal_(std=0.3, generator=torch.Generator().manual_seed(number))
    return prior.eval().requires_grad_(False)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7))


@pytest.fixture(scope="module")
def by_class() -> Llama:
    return decided(Llama(LlamaConfig(**TINY, prefix_rows=11)))


@pytest.fixture(scope="module")
def by_text() -> Llama:
    """Of prompts up to 6 tokens, with control before both blocks."""
    text = {"prefix_rows": 0, "feature_width": 8, "prefix_length": 6, "control_layers": (0, 1)}
    return decided(Llama(LlamaConfig(**TINY, **text)))


def label() -> ClassCondition:
    return ClassCondition(torch.tensor([3, 5]), 10, offset=32, unconditional=TokenCondition(torch.tensor([[42]])))


def prompts() -> TextCondition:
    mask = torch.tensor([[False, False, True, True], [True] * 4])
    return TextCondition(random(2, 4, 8) * mask[..., None], mask, random(1, 6, 8))


def controlled(height: int, width: int) -> ControlledCondition:
    strength = torch.linspace(0, 1, height * width).view(1, height, width)
    return ControlledCondition(prompts(), random(1, height, width, 2, 64), strength)


def agree(prior, condition, canvas: Canvas, **settings) -> None:
    """The fast loop and the plain one give the same codes."""
    arguments = (prior, condition, canvas, 11, SamplingSettings(**settings))
    fast, plain = sample(*arguments), sample_plainly(*arguments)
    assert torch.equal(fast.indices, plain.indices)
    torch.testing.assert_close(fast.entropy, plain.entropy, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(4, 4), (6, 7), (3, 3)])
def test_guided_classes_on_canvases_of_any_size(by_class, size):
    agree(by_class, label(), Canvas.empty(2, *size), guidance_scale=2.0)


def test_completion_around_what_is_known(by_class):
    canvas = Canvas.empty(2, 6, 6)
    canvas.known[:, :3] = True
    canvas.known[1, 4, 2:5] = True
    agree(by_class, label(), canvas, temperature=0.7, top_k=8)


def test_wrapped_canvases(by_class):
    agree(by_class, label(), Canvas.empty(2, 5, 6).with_wrap("both"))


def test_prompts_of_two_lengths_in_a_batch(by_text):
    agree(by_text, prompts(), Canvas.empty(2, 4, 6), guidance_scale=3.0)


def test_painted_control_on_a_canvas_larger_than_the_window(by_text):
    agree(by_text, controlled(5, 6), Canvas.empty(2, 5, 6), guidance_scale=3.0)


def test_a_prompt_s_length_in_a_batch_changes_nothing(by_text):
    both, alone = prompts(), prompts()
    alone = TextCondition(alone.features[:1, 2:], alone.mask[:1, 2:], alone.null)
    canvas = Canvas.empty(2, 4, 4)
    together = sample(by_text, both, canvas, 3, SamplingSettings(guidance_scale=4.0)).indices
    by_itself = sample(by_text, alone, Canvas.empty(1, 4, 4), 3, SamplingSettings(guidance_scale=4.0)).indices
    assert torch.equal(together[:1], by_itself)


def test_control_of_strength_zero_is_none(by_text):
    cells = torch.arange(16).repeat(2, 1)
    nothing = ControlledCondition(prompts(), random(1, 4, 4, 2, 64), torch.zeros(1, 4, 4))
    torch.testing.assert_close(by_text(nothing.prefix(WINDOW), cells), by_text(prompts().prefix(WINDOW), cells))


@torch.no_grad()
def test_only_the_distance_between_cells_counts(by_class):
    """All cells of a window moved together give the same logits."""
    cells = torch.arange(16).view(1, 16)
    embedded = by_class.tok_embeddings(torch.cat([torch.tensor([[35]]), cells[:, :-1]], 1))
    rotation = by_class._rotations(1, 0, 16)
    moved = torch.cat([rotation[:1], rotation[1:] * by_class._rotations(1, 7, 8)])
    here, there = (by_class.run(embedded, r, None, None, 0) for r in (rotation, moved))
    torch.testing.assert_close(here, there, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        (Prefix(torch.zeros(1, 2, dtype=torch.long)), "gives prefixes of 2 tokens, the prior takes 1"),
        (Prefix(torch.tensor([[31]])), "holds token 31, the prior knows 32 to 42"),
        (Prefix(torch.zeros(1, 1, 8)), "gives text, the prior takes tokens"),
    ],
)
def test_a_prefix_of_another_kind_is_refused(by_class, prefix, message):
    with pytest.raises(ValueError, match=message):
        by_class.check_prefix(prefix)


def test_control_of_another_prior_is_refused(by_text):
    with pytest.raises(ValueError, match=r"control has shape \(3, 64\) a cell, the prior takes \(2, 64\)"):
        by_text.check_prefix(Prefix(random(1, 4, 8), None, random(1, 16, 3, 64)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 66}, "does not divide"),
        ({"feature_width": 8}, "a prefix is one of them"),
        ({"control_layers": (2,)}, "name a block that does not exist"),
        ({"layers": 10**6}, "choose at most"),
    ],
)
def test_impossible_configurations_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        LlamaConfig(**{**TINY, **values})


@pytest.fixture(scope="module")
def of_shapes() -> Llama:
    """Trained on images of several shapes."""
    return decided(Llama(LlamaConfig(**TINY, prefix_rows=11, whole_canvas=True)))


def test_a_canvas_of_another_shape_is_one_window_counted_on(of_shapes):
    """2 x 7 cells are the first 14 of the grid of 4 x 4, and so what 4 x 4 begins with."""
    square = sample(of_shapes, label(), Canvas.empty(2, 4, 4), 0, SamplingSettings(temperature=0))
    wide = sample(of_shapes, label(), Canvas.empty(2, 2, 7), 0, SamplingSettings(temperature=0))
    assert torch.equal(wide.indices.flatten(1), square.indices.flatten(1)[:, :14])


def test_a_canvas_of_too_many_cells_is_refused_by_it(of_shapes):
    with pytest.raises(ValueError, match="at most 16 cells at once"):
        sample(of_shapes, label(), Canvas.empty(2, 3, 6), 0, SamplingSettings())
