import math

import pytest
import torch

from tessera.core.canvas.canvas import Canvas
from tessera.core.conditions.base import StartToken, TokenCondition
from tessera.core.conditions.label import ClassCondition
from tessera.core.conditions.spatial import CoordinatesCondition, SpatialCondition
from tessera.core.priors.transformer import Transformer, TransformerConfig
from tessera.core.sampling.loop import sample, sample_steps
from tessera.core.sampling.noise import MAX_SEED
from tessera.core.sampling.reference import sample_plainly
from tessera.core.sampling.settings import SamplingSettings
from tessera.core.sampling.state import Progress, SamplingState

CODES, VOCABULARY, SIDE = 40, 60, 4
PLAIN = SamplingSettings()


def tiny(prefix_length: int = 1, **changes) -> Transformer:
    torch.manual_seed(0)
    config = {"layers": 2, "width": 32, "heads": 4, "codebook_size": CODES, "vocab_size": VOCABULARY, "window": SIDE}
    prior = Transformer(TransformerConfig(**{**config, "prefix_length": prefix_length, **changes})).eval()
    for parameter in prior.parameters():  # as trained models, it has an opinion
        torch.nn.init.normal_(parameter, std=0.3)
    return prior


def codes(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(CODES, shape, generator=torch.Generator().manual_seed(seed))


def part_known(batch: int, height: int, width: int) -> Canvas:
    """A canvas with about half of its cells known, others in each picture."""
    forgotten = torch.rand(batch, height, width, generator=torch.Generator().manual_seed(2)) < 0.5
    return Canvas.filled(codes(batch, height, width)).forget(forgotten)


def assert_same(found: SamplingState, expected: SamplingState) -> None:
    assert torch.equal(found.indices, expected.indices)
    assert torch.equal(found.known, expected.known)
    torch.testing.assert_close(found.entropy, expected.entropy, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.log_probability, expected.log_probability, atol=1e-4, rtol=1e-4)


CONDITIONS = {
    "nothing": lambda batch, h, w: (1, StartToken(token=50)),
    "one label for all": lambda batch, h, w: (1, ClassCondition(torch.tensor([3]), 10, offset=CODES)),
    "a label each": lambda batch, h, w: (1, ClassCondition(torch.arange(batch), 10, offset=CODES)),
    "one picture for all": lambda batch, h, w: (16, SpatialCondition(codes(1, h, w, seed=5), (h, w))),
    "a picture each": lambda batch, h, w: (16, SpatialCondition(codes(batch, h, w, seed=5), (h, w), offset=20)),
    "a finer picture": lambda batch, h, w: (64, SpatialCondition(codes(1, 2 * h, 2 * w, seed=5), (h, w))),
    "coordinates": lambda batch, h, w: (16, CoordinatesCondition((h, w), 20, 8, offset=CODES)),
    "tokens": lambda batch, h, w: (5, TokenCondition(codes(1, 5, seed=5))),
}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", CONDITIONS)
@pytest.mark.parametrize(("height", "width"), [(4, 4), (7, 9)])
def test_sampling_equals_the_plain_loop(kind, batch, height, width):
    length, condition = CONDITIONS[kind](batch, height, width)
    prior, canvas = tiny(length), Canvas.empty(batch, height, width)
    settings = SamplingSettings(temperature=0.9, top_k=20)
    assert_same(sample(prior, condition, canvas, 11, settings), sample_plainly(prior, condition, canvas, 11, settings))


@pytest.mark.parametrize("kind", ["nothing", "one picture for all", "a picture each"])
@pytest.mark.parametrize(("batch", "height", "width"), [(1, 4, 4), (1, 9, 6), (3, 6, 9)])
def test_sampling_around_known_cells_equals_the_plain_loop(kind, batch, height, width):
    length, condition = CONDITIONS[kind](batch, height, width)
    prior, canvas = tiny(length), part_known(batch, height, width)
    expected = sample_plainly(prior, condition, canvas, 4, PLAIN)
    found = sample(prior, condition, canvas, 4, PLAIN)
    assert_same(found, expected)
    assert torch.equal(found.indices[canvas.known], canvas.indices[canvas.known])
    assert not found.entropy[canvas.known].any()
    assert not found.log_probability[canvas.known].any()
    assert (found.indices != canvas.indices)[~canvas.known].any()


def test_sampling_with_a_prefix_that_sees_itself_both_ways_equals_the_plain_loop():
    prior, condition, canvas = tiny(16, unmasked=16), CoordinatesCondition((4, 6), CODES, 8), Canvas.empty(2, 4, 6)
    assert_same(sample(prior, condition, canvas, 3, PLAIN), sample_plainly(prior, condition, canvas, 3, PLAIN))


@pytest.mark.parametrize("batch", [2, 5])
def test_picture_b_of_a_batch_is_the_first_picture_of_a_later_seed(batch):
    prior, condition = tiny(16), SpatialCondition(codes(1, 5, 6), (5, 6))
    together = sample(prior, condition, Canvas.empty(batch, 5, 6), 20, PLAIN).indices
    assert len(together.unique(dim=0)) == batch
    for b in range(batch):
        alone = sample(prior, condition, Canvas.empty(1, 5, 6), 20 + b, PLAIN).indices
        assert torch.equal(together[b : b + 1], alone)


def test_training_s_random_state_is_neither_used_nor_touched():
    prior, canvas = tiny(), Canvas.empty(1, 4, 4)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = sample(prior, StartToken(), canvas, 9, PLAIN).indices
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert torch.equal(sample(prior, StartToken(), canvas, 9, PLAIN).indices, first)


def test_smallest_and_largest_seed_are_allowed_and_differ():
    prior, canvas = tiny(), Canvas.empty(2, 4, 4)
    low, high = (sample(prior, StartToken(), canvas, seed, PLAIN).indices for seed in (0, MAX_SEED))
    assert not torch.equal(low[0], high[0])
    assert torch.equal(high[1], low[0])  # the count goes on from 0


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1])
def test_seed_out_of_range_is_refused_with_the_range(seed):
    with pytest.raises(ValueError, match=rf"seed {seed} is out of range; choose 0 to {MAX_SEED}"):
        SamplingState.start(Canvas.empty(1, 4, 4), seed)


def test_small_change_of_temperature_changes_few_cells():
    prior, canvas = tiny(), Canvas.empty(30, 4, 4)
    prior.tok_emb.weight.data[:CODES] = 0  # blind to the cells before: each differs by its draw alone
    plain = sample(prior, StartToken(), canvas, 0, PLAIN).indices
    nudged = sample(prior, StartToken(), canvas, 0, SamplingSettings(temperature=1.02)).indices
    other = sample(prior, StartToken(), canvas, 100, PLAIN).indices
    assert 0 < (plain != nudged).float().mean() < 0.2
    assert (plain != other).float().mean() > 0.7


def test_temperature_zero_takes_the_most_likely_code_whatever_the_seed():
    prior, canvas, cold = tiny(), Canvas.empty(2, 5, 5), SamplingSettings(temperature=0)
    first, second = (sample(prior, StartToken(), canvas, seed, cold) for seed in (1, 2))
    assert torch.equal(first.indices, second.indices)
    assert torch.equal(first.indices[0], first.indices[1])
    assert (first.log_probability >= -math.log(CODES)).all()  # at least as likely as the average code


def test_temperature_map_sets_each_cell_s_boldness():
    prior, canvas = tiny(), Canvas.empty(6, 4, 4)
    bold = torch.zeros(4, 4)
    bold[2:, 1:3] = 5.0
    indices = sample(prior, StartToken(), canvas, 0, SamplingSettings(temperature=bold)).indices
    cold = sample(prior, StartToken(), canvas, 0, SamplingSettings(temperature=0)).indices
    assert torch.equal(indices[:, :2], cold[:, :2])  # before the first bold cell nothing differs
    assert (indices[:, 2:, 1:3] != cold[:, 2:, 1:3]).float().mean() > 0.5


def test_temperature_map_of_each_picture_equals_the_plain_loop():
    prior, canvas = tiny(), Canvas.empty(3, 5, 4)
    heat = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(8)) * 2
    settings = SamplingSettings(temperature=heat, top_p=0.9, min_p=0.02)
    expected = sample_plainly(prior, StartToken(), canvas, 6, settings)
    assert_same(sample(prior, StartToken(), canvas, 6, settings), expected)


def test_statistics_are_of_the_model_s_own_distribution_whatever_the_settings():
    prior, canvas = tiny(), Canvas.empty(1, 4, 4)
    plain, narrow = (sample(prior, StartToken(), canvas, 1, s) for s in (PLAIN, SamplingSettings(top_k=1)))
    torch.testing.assert_close(plain.entropy[0, 0, 0], narrow.entropy[0, 0, 0])
    assert narrow.entropy.min() > 0


@pytest.mark.parametrize("after", [1, 7, 20, 34])
def test_stopped_saved_loaded_and_resumed_equals_uninterrupted(after, tmp_path):
    prior, condition, canvas = tiny(16), CoordinatesCondition((5, 7), CODES, 8), Canvas.empty(2, 5, 7)
    settings = SamplingSettings(temperature=1.1, top_k=30)
    expected = sample(prior, condition, canvas, 13, settings)

    state = SamplingState.start(canvas, 13)
    for progress in sample_steps(prior, condition, state, settings):
        if progress.done == after:
            break
    state.save(tmp_path / "stopped.safetensors")
    resumed = SamplingState.load(tmp_path / "stopped.safetensors")
    decided = int(resumed.known.sum()) // 2
    assert resumed.seed == 13
    assert after <= decided < after + 32
    left = [progress.total for progress in sample_steps(prior, condition, resumed, settings)]
    assert left == [35 - decided] * (35 - decided)
    assert_same(resumed, expected)
    assert_same(state, SamplingState.load(tmp_path / "stopped.safetensors"))  # the stopped one stayed as it was


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_state_file_is_refused_by_name(share, tmp_path):
    path = tmp_path / "cut.safetensors"
    SamplingState.start(Canvas.empty(2, 6, 6), 1).save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"cut\.safetensors is truncated"):
        SamplingState.load(path)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 4)])
def test_an_event_tells_of_every_unknown_cell_in_raster_order_while_windows_are_as_wide_as_the_canvas(height, width):
    prior, canvas = tiny(), part_known(1, height, width)
    state = SamplingState.start(canvas, 0)
    unknown = [(i, j) for i in range(height) for j in range(width) if not canvas.known[0, i, j]]
    for number, progress in enumerate(sample_steps(prior, StartToken(), state, PLAIN), 1):
        row, column = unknown[number - 1]
        assert progress == Progress(number, len(unknown), row, column)
        assert state.known[0, row, column]
        assert int((~state.known).sum()) <= len(unknown) - number
    assert number == len(unknown)


def test_between_steps_the_caller_can_take_gradients():
    steps = sample_steps(tiny(), StartToken(), SamplingState.start(Canvas.empty(1, 4, 4), 0), PLAIN)
    next(steps)
    x = torch.ones(1, requires_grad=True)
    (x * 2).backward()
    assert x.grad.item() == 2


def test_known_canvas_needs_no_step():
    canvas = Canvas.filled(codes(1, 4, 4))
    state = SamplingState.start(canvas, 0)
    assert list(sample_steps(tiny(), StartToken(), state, PLAIN)) == []
    assert torch.equal(state.indices, canvas.indices)


def test_the_canvas_it_starts_from_stays_as_it_was():
    canvas = part_known(2, 4, 4)
    before = canvas.indices.clone(), canvas.known.clone()
    state = sample(tiny(), StartToken(), canvas, 0, PLAIN)
    assert torch.equal(canvas.indices, before[0])
    assert torch.equal(canvas.known, before[1])
    assert state.canvas.known.all()
    assert torch.equal(state.canvas.indices, state.indices)


def test_wide_canvas_is_guided_by_the_condition_under_each_window():
    # two conditions that agree on the left half only: the pictures agree until a window reaches the right half
    left, right, other = codes(1, 4, 6, seed=5), codes(1, 4, 6, seed=6), codes(1, 4, 6, seed=7)
    prior, canvas = tiny(16), Canvas.empty(12, 4, 12)
    a, b = (
        sample(prior, SpatialCondition(torch.cat([left, half], 2), (4, 12)), canvas, 2, PLAIN).indices
        for half in (right, other)
    )
    assert torch.equal(a[:, 0, :5], b[:, 0, :5])  # the window of column 5 is the first that holds column 6
    assert not torch.equal(a[:, :, 5:], b[:, :, 5:])


@pytest.mark.parametrize(
    ("canvas", "condition", "message"),
    [
        (Canvas.filled(torch.full((1, 4, 4), CODES)), StartToken(), r"holds code 40, the prior knows 0 to 39"),
        (
            Canvas.empty(1, 4, 4),
            SpatialCondition(codes(1, 4, 4), (4, 4)),
            "1 prefixes of 16 tokens, the prior takes 1;",
        ),
        (Canvas.empty(3, 4, 4), ClassCondition(torch.tensor([0, 1]), 2), r"gives 2 prefixes, the canvas takes 1 or 3"),
        (Canvas.empty(1, 4, 4), StartToken(VOCABULARY), r"holds token 60, the prior knows 0 to 59"),
        (Canvas.empty(1, 4, 4), StartToken(-1), r"holds token -1, the prior knows 0 to 59"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused_before_work_starts(canvas, condition, message):
    with pytest.raises(ValueError, match=message):
        sample(tiny(), condition, canvas, 0, PLAIN)


@pytest.mark.parametrize("made_for", [(4, 4), (8, 8), (4, 12), (16, 16)])
def test_condition_made_for_another_canvas_is_refused(made_for):
    height, width = made_for
    for condition in (SpatialCondition(codes(1, height, width), made_for), CoordinatesCondition(made_for, CODES, 8)):
        with pytest.raises(ValueError, match=rf"condition was made for {height}x{width} cells, the canvas has 4x8"):
            sample(tiny(16), condition, Canvas.empty(1, 4, 8), 0, PLAIN)


@pytest.mark.parametrize("shape", [(4, 5), (2, 4, 4), (3,), (1, 1, 4, 4)])
def test_temperature_map_of_another_size_is_refused_with_both_sizes(shape):
    settings = SamplingSettings(temperature=torch.ones(shape))
    with pytest.raises(ValueError, match=r"temperature map has shape .*the canvas 1 images of 4x4"):
        sample(tiny(), StartToken(), Canvas.empty(1, 4, 4), 0, settings)
