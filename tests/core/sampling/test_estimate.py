import pytest
import torch

from tessera.core.canvas.canvas import Canvas
from tessera.core.conditions.base import StartToken
from tessera.core.conditions.label import ClassCondition
from tessera.core.conditions.spatial import CoordinatesCondition
from tessera.core.priors.transformer import Transformer, TransformerConfig
from tessera.core.sampling.estimate import RunEstimate, estimate_run
from tessera.core.sampling.loop import sample_steps
from tessera.core.sampling.schedule import schedule
from tessera.core.sampling.settings import SamplingSettings
from tessera.core.sampling.state import SamplingState
from tessera.core.sampling.windows import Sliding

PLAIN = SamplingSettings()


def tiny(**changes) -> Transformer:
    torch.manual_seed(0)
    config = {"layers": 2, "width": 32, "heads": 4, "codebook_size": 40, "vocab_size": 60, "window": 4}
    return Transformer(TransformerConfig(**{**config, "prefix_length": 1, **changes})).eval()


@pytest.mark.parametrize("wrap", ["none", "both"])
@pytest.mark.parametrize("sliding", [Sliding(), Sliding(stride=2), Sliding(rows=5)])
@pytest.mark.parametrize(("height", "width"), [(4, 4), (9, 12), (3, 5)])
def test_counts_are_those_of_the_run(sliding, wrap, height, width):
    prior, canvas = tiny(), Canvas.empty(2, height, width).with_wrap(wrap)
    plan = estimate_run(prior, StartToken(), canvas, PLAIN, sliding)
    state = SamplingState.start(canvas, 0)
    work = schedule(prior, StartToken(), state, sliding)
    assert plan.rounds == len(work)
    assert plan.windows == sum(not stretch.resumes for together in work for stretch in together)
    assert plan.cells == len(list(sample_steps(prior, StartToken(), state, PLAIN, sliding)))
    assert plan.seconds > 0
    assert plan.memory > 0


def test_one_window_is_read_once_and_a_longer_stride_reads_fewer():
    prior = tiny()
    assert estimate_run(prior, StartToken(), Canvas.empty(1, 4, 4), PLAIN).windows == 1
    exact, fast = (estimate_run(prior, StartToken(), Canvas.empty(1, 8, 24), PLAIN, Sliding(stride=s)) for s in (1, 2))
    assert fast.windows < exact.windows / 1.5
    assert fast.cells == exact.cells == 8 * 24


def test_nothing_to_do_takes_nothing():
    canvas = Canvas.filled(torch.zeros(1, 6, 6, dtype=torch.int64))
    plan = estimate_run(tiny(), StartToken(), canvas, PLAIN)
    assert (plan.cells, plan.windows, plan.rounds, plan.seconds, plan.memory) == (0, 0, 0, 0, 0)


def test_planning_decides_nothing():
    canvas = Canvas.empty(2, 6, 6)
    estimate_run(tiny(), ClassCondition(torch.tensor([1, 2]), 5, offset=40), canvas, PLAIN)
    assert not canvas.known.any()
    assert not canvas.indices.any()


def test_memory_follows_the_window_and_the_batch_not_the_canvas():
    prior = tiny(prefix_length=16)
    sizes = {
        (batch, side): estimate_run(
            prior, CoordinatesCondition((side, side), 20, 8, 40), Canvas.empty(batch, side, side), PLAIN
        ).memory
        for batch, side in ((1, 12), (1, 40), (4, 12))
    }
    assert sizes[1, 12] == sizes[1, 40] < sizes[4, 12]


def test_parts_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="holds token 60"):
        estimate_run(tiny(), StartToken(60), Canvas.empty(1, 4, 4), PLAIN)


def test_plan_reads_as_one_line():
    line = RunEstimate(cells=2304, windows=576, rounds=300, seconds=130.0, memory=210 * 2**20).summary()
    assert line == "2304 cells through 576 windows: about 2 min, 210 MB"
    assert "about 40 s" in RunEstimate(9, 9, 9, 40.2, 0).summary()
    assert RunEstimate(0, 0, 0, 0.0, 0).summary() == "Nothing to paint: all cells are known"
