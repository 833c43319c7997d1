"""The sliding window against section 3.2 read word for word: every cell from the whole of its window, in raster
order, nothing kept from one cell to the next."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tessera.core.canvas.canvas import Canvas
from tessera.core.conditions.base import Condition, StartToken, TokenCondition
from tessera.core.conditions.label import ClassCondition
from tessera.core.conditions.spatial import CoordinatesCondition, SpatialCondition
from tessera.core.geometry import Window
from tessera.core.priors.transformer import Transformer, TransformerConfig
from tessera.core.sampling.logits import draw, warp
from tessera.core.sampling.loop import sample, sample_steps
from tessera.core.sampling.noise import cell_keys, gumbel
from tessera.core.sampling.schedule import schedule, split_groups
from tessera.core.sampling.settings import SamplingSettings
from tessera.core.sampling.state import SamplingState
from tessera.core.sampling.windows import Sliding

CODES, SIDE = 40, 4
BOLD = SamplingSettings(temperature=1.2, top_k=30)
GUIDED = SamplingSettings(temperature=1.2, top_k=30, guidance_scale=1.7)
CONDITIONS = ("nothing", "label", "picture", "pictures", "fine picture", "coordinates", "guided pictures")


def tiny(prefix_length: int, side: int = SIDE, **changes) -> Transformer:
    torch.manual_seed(0)
    config = {"layers": 2, "width": 32, "heads": 4, "codebook_size": CODES, "vocab_size": 60, "window": side}
    prior = Transformer(TransformerConfig(**{**config, "prefix_length": prefix_length, **changes})).eval()
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return prior.requires_grad_(False)


def codes(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(CODES, shape, generator=torch.Generator().manual_seed(seed))


def guided_by(kind: str, batch: int, height: int, width: int, side: int = SIDE) -> tuple[int, Condition]:
    """A condition of that kind and the length of its prefixes."""
    match kind:
        case "nothing":
            return 1, StartToken(token=50)
        case "label":
            return 1, ClassCondition(torch.arange(batch), 10, offset=CODES)
        case "coordinates":
            return side**2, CoordinatesCondition((height, width), 20, 8, offset=CODES)
        case "picture":
            return side**2, SpatialCondition(codes(1, height, width, seed=5), (height, width))
        case "pictures":
            return side**2, SpatialCondition(codes(batch, height, width, seed=5), (height, width))
        case "guided pictures":
            without = TokenCondition(codes(1, side**2, seed=6))
            return side**2, SpatialCondition(
                codes(batch, height, width, seed=5), (height, width), unconditional=without
            )
        case "fine picture":
            return 4 * side**2, SpatialCondition(codes(1, 2 * height, 2 * width, seed=5), (height, width))


def settings_of(condition: Condition) -> SamplingSettings:
    """Guided where the condition allows it."""
    return GUIDED if condition.unconditional else BOLD


def canvas_of(batch: int, height: int, width: int, share: float) -> Canvas:
    """A canvas of which about this share is unknown, elsewhere in each picture."""
    forgotten = torch.rand(batch, height, width, generator=torch.Generator().manual_seed(2)) < share
    return Canvas.filled(codes(batch, height, width)).forget(forgotten)


def window_begin(cell: int, size: int, side: int, stride: int, wraps: bool, again: bool) -> int:
    """As in the paper, as near to the middle as borders let it be; moved to the stride's grid."""
    begin = ((cell - side // 2 + stride // 2) // stride) * stride
    if wraps:
        return begin if again else max(begin, 0)
    return max(min(begin, size - side), 0)


def plain_loop(prior: Transformer, condition: Condition, canvas: Canvas, seed: int, sliding: Sliding) -> Tensor:
    """The codes [B, h, w]; a full forward pass for every cell."""
    batch, height, width = canvas.indices.shape
    side, stride, bold = prior.config.window, sliding.stride, settings_of(condition)
    wrap_y, wrap_x = canvas.wraps("height"), canvas.wraps("width")
    full = width if wrap_x else max(width, side)
    noise = gumbel(cell_keys(seed, batch, height, full), CODES)  # [B, h, w, K]
    board = torch.cat([canvas.indices, torch.zeros(batch, height, full - width, dtype=torch.int64)], 2)
    given = torch.cat([canvas.known, torch.zeros(batch, height, full - width, dtype=torch.bool)], 2)

    def visit(i: int, j: int, again: bool) -> None:
        if given[:, i, j].all():
            return
        top = window_begin(i, height, side, 1, wrap_y, again)
        left = window_begin(j, full, side, stride, wrap_x, again)
        # what lies below a small canvas is never looked at: any code will do
        rows = [r % height if wrap_y else min(r, height - 1) for r in range(top, top + side)]
        columns = [c % full for c in range(left, left + side)]
        seen = board[:, rows][:, :, columns].flatten(1)
        prefix = condition.prefix(Window(top, left, side, side, canvas.wrap)).expand(batch, -1)
        logits = prior(prefix, seen)[:, side * (i - top) + j - left]
        if bold.guidance_scale != 1:
            free = prior(condition.unconditional.prefix(None).expand(batch, -1), seen)[:, side * (i - top) + j - left]
            logits = bold.guidance_scale * logits.log_softmax(-1) + (1 - bold.guidance_scale) * free.log_softmax(-1)
        drawn = draw(warp(logits, bold, bold.temperature), noise[:, i, j])
        board[:, i, j] = torch.where(given[:, i, j], board[:, i, j], drawn)

    held_back = side // 2 - stride // 2, side // 2
    with torch.no_grad():
        for i in range(height):
            for j in range(full):
                visit(i, j, False)
        for i in range(min(held_back[1], height) if wrap_y else 0):
            for j in range(full):
                visit(i, j, True)
        for i in range(height if wrap_x else 0):
            for j in range(min(held_back[0], full)):
                visit(i, j, True)
    return board[:, :, :width]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 10), st.integers(1, 18), st.integers(1, 2), st.sampled_from(CONDITIONS),
    st.sampled_from([1.0, 1.0, 0.5]), st.integers(0, 4), st.integers(0, 100),
)  # fmt: skip
def test_any_canvas_equals_the_plain_loop(height, width, batch, kind, share, rows, seed):
    length, condition = guided_by(kind, batch, height, width)
    prior, canvas, sliding = tiny(length), canvas_of(batch, height, width, share), Sliding(rows=rows)
    expected = plain_loop(prior, condition, canvas, seed, sliding)
    assert torch.equal(sample(prior, condition, canvas, seed, settings_of(condition), sliding).indices, expected)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 10), st.integers(1, 18), st.integers(1, 2), st.sampled_from(CONDITIONS),
    st.sampled_from([1.0, 1.0, 0.5]), st.sampled_from(["x", "y", "both"]), st.sampled_from([1, 2]),
    st.integers(0, 4),
)  # fmt: skip
def test_any_wrapped_or_strided_canvas_equals_the_plain_loop(height, width, batch, kind, share, wrap, stride, rows):
    width = max(width, SIDE) if wrap == "y" else width
    length, condition = guided_by(kind, batch, height, width)
    prior, plain = tiny(length), canvas_of(batch, height, width, share)
    wrapped = plain.with_wrap(wrap)
    for canvas, sliding in (
        (wrapped, Sliding(rows=rows)), (plain, Sliding(stride=stride)), (wrapped, Sliding(stride=stride)),
    ):  # fmt: skip
        expected = plain_loop(prior, condition, canvas, 3, sliding)
        assert torch.equal(sample(prior, condition, canvas, 3, settings_of(condition), sliding).indices, expected)


@pytest.mark.parametrize(
    ("kind", "height", "width", "share", "sliding"),
    [
        ("picture", 16, 16, 1.0, Sliding()),
        ("coordinates", 17, 33, 1.0, Sliding()),
        ("nothing", 40, 72, 0.2, Sliding(rows=5)),
        ("picture", 40, 72, 0.1, Sliding()),
        ("picture", 40, 19, 0.2, Sliding(stride=8)),
        ("label", 12, 40, 0.5, Sliding(stride=4, rows=3)),
        ("picture", 18, 20, 0.4, "both"),
        ("guided pictures", 19, 21, 0.3, Sliding()),
    ],
)
def test_canvas_of_the_released_window_equals_the_plain_loop(kind, height, width, share, sliding):
    length, condition = guided_by(kind, 1, height, width, 16)
    prior, canvas = tiny(length, 16, layers=1, width=16, heads=2), canvas_of(1, height, width, share)
    if sliding == "both":
        canvas, sliding = canvas.with_wrap("both"), Sliding()
    expected = plain_loop(prior, condition, canvas, 8, sliding)
    assert torch.equal(sample(prior, condition, canvas, 8, settings_of(condition), sliding).indices, expected)


def test_guidance_needs_a_prior_that_can_do_without_its_condition():
    length, condition = guided_by("picture", 1, 4, 4)
    with pytest.raises(ValueError, match=r"guidance is 1\.7, but .*this model has not learned.*leave guidance at 1"):
        sample(tiny(length), condition, Canvas.empty(1, 4, 4), 0, GUIDED)


def test_prefix_that_sees_itself_both_ways_slides_too():
    prior, condition, canvas = tiny(16, unmasked=16), CoordinatesCondition((7, 9), 20, 8), Canvas.empty(2, 7, 9)
    for sliding in (Sliding(rows=3), Sliding(stride=2)):
        expected = plain_loop(prior, condition, canvas, 0, sliding)
        assert torch.equal(sample(prior, condition, canvas, 0, settings_of(condition), sliding).indices, expected)


@pytest.mark.parametrize("sliding", [Sliding(rows=r, stride=s) for s in (1, 2) for r in (1, 2, 3, 9)])
def test_result_does_not_depend_on_how_many_rows_advance_together(sliding):
    length, condition = guided_by("picture", 1, 12, 16)
    prior, canvas = tiny(length), Canvas.empty(1, 12, 16)
    one = sample(prior, condition, canvas, 5, BOLD, Sliding(rows=1, stride=sliding.stride))
    found = sample(prior, condition, canvas, 5, settings_of(condition), sliding)
    assert torch.equal(found.indices, one.indices)
    torch.testing.assert_close(found.entropy, one.entropy, atol=1e-4, rtol=1e-4)


def test_rows_that_do_not_depend_on_one_another_run_as_one_batch():
    length, condition = guided_by("picture", 1, 20, 24)
    prior, state = tiny(length), SamplingState.start(Canvas.empty(1, 20, 24), 0)
    one, many = (schedule(prior, condition, state, Sliding(rows=rows)) for rows in (1, 8))
    assert all(len(together) == 1 for together in one)
    assert len(many) < len(one) / 3
    largest = max((batch for together in many for batch in split_groups(together)), key=len)
    assert len(largest) > 3
    assert len({stretch.visits[0].row for stretch in largest}) == len(largest)


@pytest.mark.parametrize("wrap", ["none", "x", "y", "both"])
@pytest.mark.parametrize(("height", "width"), [(9, 11), (3, 5)])
def test_stopped_anywhere_and_resumed_gives_the_same_codes(wrap, height, width):
    length, condition = guided_by("pictures", 2, height, width)
    prior, canvas, sliding = tiny(length), canvas_of(2, height, width, 0.7).with_wrap(wrap), Sliding(rows=4)
    expected = sample(prior, condition, canvas, 5, settings_of(condition), sliding)
    total = len(list(sample_steps(prior, condition, SamplingState.start(canvas, 5), settings_of(condition), sliding)))
    for number, after in enumerate(range(1, total, 1 + total // 10)):
        state = SamplingState.start(canvas, 5)
        lookahead = number % 2  # one cell at a time, or as many as are chosen: their events follow together
        for progress in sample_steps(prior, condition, state, settings_of(condition), sliding, lookahead=lookahead):
            if progress.done == after:
                break
        left, group = 0, 4
        for progress in sample_steps(prior, condition, state, settings_of(condition), sliding):
            left += 1
            assert progress.done == left
        assert left == progress.total <= total - after
        assert left > total - after - group * (1 if lookahead else SIDE**2)
        assert torch.equal(state.indices, expected.indices)
        torch.testing.assert_close(state.entropy, expected.entropy, atol=1e-4, rtol=1e-4)


def test_stopped_state_of_a_small_canvas_is_saved_and_resumed(tmp_path):
    length, condition = guided_by("picture", 1, 3, 2)
    prior, canvas = tiny(length), Canvas.empty(1, 3, 2)
    expected = sample(prior, condition, canvas, 5, BOLD)
    assert expected.indices.shape == expected.entropy.shape == (1, 3, 2)
    state = SamplingState.start(canvas, 5)
    for progress in sample_steps(prior, condition, state, BOLD, lookahead=1):
        if progress.done == 4:
            break
    state.save(tmp_path / "small.safetensors")
    resumed = SamplingState.load(tmp_path / "small.safetensors")
    assert [p.total for p in sample_steps(prior, condition, resumed, BOLD)] == [2, 2]
    assert torch.equal(resumed.indices, expected.indices)


def test_a_cell_is_told_of_once_it_is_decided_and_not_before():
    length, condition = guided_by("nothing", 1, 9, 11)
    state, told = SamplingState.start(Canvas.empty(1, 9, 11), 0), set()
    for progress in sample_steps(tiny(length), condition, state, BOLD, Sliding(rows=4)):
        assert state.known[0, progress.row, progress.column]
        assert (progress.row, progress.column) not in told
        told.add((progress.row, progress.column))
        decided = {tuple(cell) for cell in state.known[0].nonzero().tolist()}
        assert told <= decided
    assert len(told) == 99


def test_small_canvas_is_the_corner_of_a_complete_window():
    # the rows of a canvas less high than the window are those of a higher one; nothing looks at what is below
    prior, condition = tiny(1), StartToken()
    wide = sample(prior, condition, Canvas.empty(1, 4, 9), 5, BOLD).indices
    assert torch.equal(sample(prior, condition, Canvas.empty(1, 2, 9), 5, BOLD).indices, wide[:, :2])


def test_wrapped_canvas_s_first_columns_follow_from_its_last():
    prior, condition, canvas = tiny(1), StartToken(), Canvas.empty(8, 6, 12)
    once, twice = (sample(prior, condition, canvas.with_wrap(wrap), 5, BOLD) for wrap in ("none", "x"))
    assert (twice.draws[:, :, :2] == 2).all()
    assert (twice.draws[:, :, 2:] == 1).all()
    assert not torch.equal(once.indices[:, :, :2], twice.indices[:, :, :2])


def test_given_cells_stay_at_a_second_visit_too():
    prior, canvas = tiny(1), canvas_of(2, 8, 9, 0.5).with_wrap("both")
    found = sample(prior, StartToken(), canvas, 5, BOLD)
    assert torch.equal(found.indices[canvas.known], canvas.indices[canvas.known])
    assert not found.draws[canvas.known].any()
    assert int(found.draws.max()) == 3


def test_temperature_map_holds_for_a_small_canvas():
    prior, canvas = tiny(1), Canvas.empty(1, 3, 3)
    heat = torch.zeros(3, 3)
    cold = sample(prior, StartToken(), canvas, 5, SamplingSettings(temperature=heat)).indices
    assert torch.equal(cold, sample(prior, StartToken(), canvas, 77, SamplingSettings(temperature=0)).indices)


def test_canvas_that_wraps_top_to_bottom_and_is_narrower_than_the_window_is_refused():
    with pytest.raises(ValueError, match=r"3 cells wide and wraps top to bottom only.*window is 4"):
        sample(tiny(1), StartToken(), Canvas.empty(1, 8, 3).with_wrap("y"), 0, BOLD)


@pytest.mark.parametrize("stride", [4, 8])
def test_stride_of_more_than_half_a_window_is_refused(stride):
    with pytest.raises(ValueError, match=rf"stride of {stride} cells is too long for the prior's window of 4.* most 2"):
        sample(tiny(1), StartToken(), Canvas.empty(1, 8, 9), 0, BOLD, Sliding(stride=stride))
