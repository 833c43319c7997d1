"""Priors of any order: known cells first, wherever they are; their numbers are compared in test_llamagen."""

import pytest
import torch

from tessera.core.canvas.canvas import Canvas
from tessera.core.conditions.base import TokenCondition
from tessera.core.conditions.label import ClassCondition
from tessera.core.prefix import Prefix
from tessera.core.priors.any_order import AnyOrderLlama
from tessera.core.priors.llama import LlamaConfig
from tessera.core.sampling.loop import sample, sample_steps
from tessera.core.sampling.rounds import any_order_segments
from tessera.core.sampling.settings import SamplingSettings
from tessera.core.sampling.state import SamplingState

SETTINGS = SamplingSettings(guidance_scale=2.0)
CONDITION = ClassCondition(torch.tensor([3]), 10, offset=32, unconditional=TokenCondition(torch.tensor([[42]])))


@pytest.fixture(scope="module")
def prior() -> AnyOrderLlama:
    config = LlamaConfig(layers=2, width=64, heads=1, hidden=64, codebook_size=32, prefix_rows=11, window=4)
    made = AnyOrderLlama(config).eval().requires_grad_(False)
    for number, weights in enumerate(made.parameters()):
        if weights.ndim > 1:
            weights.normal_(std=0.3, generator=torch.Generator().manual_seed(number))
    return made


def holed(height: int, width: int) -> Canvas:
    """Known around a hole."""
    canvas = Canvas(torch.arange(height * width).view(1, height, width) % 32, torch.ones(1, height, width).bool())
    canvas.known[:, 1:-1, 1:-1] = False
    return canvas


@pytest.mark.parametrize("size", [(4, 4), (7, 6), (3, 4), (9, 4)])
def test_every_unknown_cell_is_drawn_once_and_known_ones_stay(prior, size):
    canvas = holed(*size)
    state = sample(prior, CONDITION, canvas, 1, SETTINGS)
    assert torch.equal(state.draws.bool(), ~canvas.known)
    assert torch.equal(state.indices[canvas.known], canvas.indices[canvas.known])


def test_what_follows_a_hole_is_seen(prior):
    """A raster prior's first cells of a hole can't depend on the cell at the lower right; these do."""
    canvas = holed(4, 4)
    other = Canvas(canvas.indices.clone(), canvas.known.clone())
    other.indices[:, 3, 3] = 30
    here, there = (sample(prior, CONDITION, one, 1, SETTINGS).entropy for one in (canvas, other))
    assert (here != there)[~canvas.known].all()


def test_known_cells_are_read_first_and_then_those_to_draw(prior):
    canvas = holed(4, 4)
    (segment,) = any_order_segments(SamplingState.start(canvas, 0), 4, "none")
    known = canvas.known[0].flatten().nonzero().flatten().tolist()
    assert list(segment.order[:12]) == known
    assert sorted(segment.order) == list(range(16))
    assert segment.places == (12, 13, 14, 15)


def test_looking_ahead_changes_no_code(prior):
    def codes(lookahead: int) -> torch.Tensor:
        state = SamplingState.start(holed(7, 6).repeat(2), 4)
        for _ in sample_steps(prior, CONDITION, state, SETTINGS, lookahead=lookahead):
            pass
        return state.indices

    assert torch.equal(codes(1), codes(5))


def test_a_stopped_run_goes_on_to_the_same_codes(prior):
    whole = sample(prior, CONDITION, holed(9, 7), 2, SETTINGS)
    state = SamplingState.start(holed(9, 7), 2)
    for progress in sample_steps(prior, CONDITION, state, SETTINGS):
        if progress.done == 11:
            break
    for _ in sample_steps(prior, CONDITION, state, SETTINGS):
        pass
    assert torch.equal(state.indices, whole.indices)


def test_an_image_does_not_depend_on_those_beside_it(prior):
    two = sample(prior, CONDITION, holed(4, 4).repeat(2), 5, SETTINGS)
    assert torch.equal(two.indices[1:], sample(prior, CONDITION, holed(4, 4), 6, SETTINGS).indices)


def test_wrapped_canvases_are_filled(prior):
    wrapped = Canvas.empty(1, 8, 8).with_wrap("both")
    assert sample(prior, CONDITION, wrapped, 0, SETTINGS).draws.eq(1).all()


def test_an_order_that_leaves_a_cell_out_is_refused(prior):
    with pytest.raises(ValueError, match="must name each of the 16 cells"):
        prior.check_prefix(Prefix(torch.tensor([[35]]), None, torch.zeros(1, 16, dtype=torch.long)))
