import pytest
import torch

from tessera.core.canvas.canvas import Canvas
from tessera.core.clip.gate import Term, gate
from tessera.core.clip.steering import SteeringSettings, in_front_of, resample, steer_steps
from tessera.core.sampling.loop import sample
from tessera.core.sampling.settings import SamplingSettings
from tessera.core.sampling.state import SamplingState

SETTINGS = SamplingSettings()


def low_codes(canvas: Canvas) -> torch.Tensor:
    """Prefers the first codes of the codebook."""
    return -(canvas.indices.float().mean((1, 2)) / 16)


@pytest.fixture(scope="module")
def bundle(make_bundle):
    return make_bundle("none")


def steer(bundle, seed=0, particles=6, score=low_codes, **settings):
    start = bundle.empty_canvas(particles)
    state, backdrop = SamplingState.start(start, seed), bundle.empty_canvas(1)
    return list(
        steer_steps(
            bundle.prior, bundle.condition(None), state, SETTINGS, score, backdrop, SteeringSettings(**settings)
        )
    )


def test_steered_images_score_higher_than_plain_ones(bundle):
    better = 0
    for seed in range(0, 60, 6):
        plain = sample(bundle.prior, bundle.condition(None), bundle.empty_canvas(6), seed, SETTINGS)
        steered = steer(bundle, seed, begin=0, warm=0.005, cold=0.005)[-1]
        better += bool(steered.scores.mean() > low_codes(plain.canvas).mean())
    assert better >= 8


def test_a_score_that_prefers_nothing_leaves_the_plain_samples(bundle):
    events = steer(bundle, score=lambda canvas: torch.zeros(len(canvas.indices)))
    plain = sample(bundle.prior, bundle.condition(None), bundle.empty_canvas(6), 0, SETTINGS)
    assert torch.equal(events[-1].state.indices, plain.indices)
    assert sum(event.copied for event in events) == 0


def test_steering_follows_its_seed_and_tells_each_draw(bundle):
    one, two = steer(bundle, begin=0), steer(bundle, begin=0)
    assert torch.equal(one[-1].state.indices, two[-1].state.indices)
    assert one[-1].done == one[-1].total == 16
    assert sum(event.scores is None for event in one) == 16
    with pytest.raises(ValueError, match="at least 2"):
        steer(bundle, particles=1)


def test_resampling_copies_the_good_over_the_bad_and_moves_no_other():
    generator = torch.Generator().manual_seed(0)
    assert resample(torch.zeros(4), 1.0, generator).tolist() == [0, 1, 2, 3]
    assert resample(torch.tensor([0.0, 9.0, 0.0, 0.0]), 0.1, generator).tolist() == [1, 1, 1, 1]
    found = resample(torch.tensor([0.0, 1.0, 1.0, -9.0, -9.0]), 0.1, generator)
    assert found[1:3].tolist() == [1, 2]
    assert set(found.tolist()) <= {1, 2}


def test_what_is_unknown_is_the_backdrop():
    state = SamplingState.start(Canvas.empty(2, 1, 2), 0)
    state.known[1] = True
    shown = in_front_of(state, Canvas.filled(torch.tensor([[[5, 6]]])))
    assert shown.indices.tolist() == [[[5, 6]], [[0, 0]]]
    assert shown.known.all()


def test_the_gate_stops_at_the_first_that_passes_and_returns_the_best():
    scores = torch.tensor([0.1, 0.5, 0.3, 0.9, 0.7, 0.2])
    asked = []

    def make(first: int) -> list[torch.Tensor]:
        asked.append(first)
        return [scores[first : first + 2], 1 - scores[first : first + 2]]

    terms = [Term(name="words", weight=3, quantiles=torch.linspace(0, 1, 101)), Term(name="reference")]
    events = list(gate(make, terms, 69.0, 6, 2))
    assert asked == [0, 2]
    assert events[-1].passed
    assert events[-1].best == 3
    asked.clear()
    never = list(gate(make, terms, 99.0, 6, 2))[-1]
    assert asked == [0, 2, 4]
    assert (never.passed, never.best) == (False, 3)


def test_percents_are_shares_of_real_images():
    term = Term(name="words", quantiles=torch.tensor([0.1, 0.2, 0.3, 0.4]))
    assert term.percent(torch.tensor([0.0, 0.25, 0.5])).tolist() == [0, 50, 100]
    assert Term(name="x").percent(torch.tensor([0.25])).tolist() == [25]
    with pytest.raises(ValueError, match="no table of what real pictures reach in realism"):
        Term(name="realism", bounded=False)
    with pytest.raises(ValueError, match="weight of words"):
        Term(name="words", weight=0)
    with pytest.raises(ValueError, match="nothing to judge"):
        next(gate(lambda first: [], [], 1, 1, 1))
