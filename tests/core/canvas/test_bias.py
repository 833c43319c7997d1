import math

import pytest
import torch

from tessera.core.canvas.bias import add_bias, listed_bias, palette_bias, parse_codes, share_with_neighbors
from tessera.core.conditions.base import StartToken
from tessera.core.sampling.loop import sample, sample_steps
from tessera.core.sampling.reference import sample_plainly
from tessera.core.sampling.settings import SamplingSettings
from tessera.core.sampling.state import SamplingState
from tessera.tests.core.sampling.test_sampling import CODES, Canvas, assert_same, tiny

COUNTS = torch.zeros(CODES)
COUNTS[[3, 7, 20]] = torch.tensor([8.0, 4.0, 1.0])


def test_codes_used_more_are_leaned_to_more_and_strength_scales_it():
    bias = palette_bias(COUNTS, 2.0)
    assert bias[3] == 0
    assert bias[7] == pytest.approx(2 * math.log(0.5))
    assert bias[20] == pytest.approx(2 * math.log(1 / 8))
    assert bias[0] == pytest.approx(2 * math.log(1e-3))
    assert not palette_bias(COUNTS, 0.0).any()
    assert palette_bias(COUNTS, 0.0, only=True).isfinite().nonzero().flatten().tolist() == [3, 7, 20]


@pytest.mark.parametrize("lookahead", [1, 8])
@pytest.mark.parametrize(("height", "width"), [(4, 4), (7, 9)])
def test_biased_codes_are_those_of_the_plain_loop_however_far_it_looks_ahead(height, width, lookahead):
    prior, canvas = tiny(), Canvas.empty(2, height, width)
    settings = SamplingSettings(temperature=0.8, top_k=9, bias=palette_bias(COUNTS, 0.5) + listed_bias(CODES, [3], [9]))
    state = SamplingState.start(canvas, 5)
    list(sample_steps(prior, StartToken(), state, settings, lookahead=lookahead))
    assert_same(state, sample_plainly(prior, StartToken(), canvas, 5, settings))
    free = sample(prior, StartToken(), canvas, 5, SamplingSettings(temperature=0.8, top_k=9)).indices
    assert (state.indices != free).any()


def test_palette_alone_uses_no_other_code_and_a_ban_none_of_its_codes():
    prior, canvas = tiny(), Canvas.empty(3, 6, 6)
    only = SamplingSettings(bias=palette_bias(COUNTS, 0.3, only=True))
    assert set(sample(prior, StartToken(), canvas, 0, only).indices.unique().tolist()) <= {3, 7, 20}
    banned = SamplingSettings(bias=add_bias(only.bias, listed_bias(CODES, [3], [])))
    assert set(sample(prior, StartToken(), canvas, 0, banned).indices.unique().tolist()) == {7, 20}
    plain = sample(prior, StartToken(), canvas, 0, SamplingSettings()).indices
    boosted = sample(prior, StartToken(), canvas, 0, SamplingSettings(bias=listed_bias(CODES, [], [5], 3.0))).indices
    assert (boosted == 5).sum() > (plain == 5).sum()


def test_neighbors_in_the_codebook_share_in_what_a_code_is_used():
    line = torch.cat([torch.arange(10.0), torch.tensor([50.0])]).unsqueeze(1)  # one apart, the last far off
    used = torch.zeros(11)
    used[4] = 8
    shared = share_with_neighbors(used, line, 1.0)
    assert shared[4] == 8
    assert shared[3] == shared[5] == pytest.approx(8 * math.exp(-1 / 2))
    assert (shared > 0).tolist() == [2 <= code <= 6 for code in range(11)]
    assert torch.equal(share_with_neighbors(used, line, 0), used)


def test_lists_of_codes_are_read_with_ranges():
    assert parse_codes("3, 17\n40-42,") == [3, 17, 40, 41, 42]
    assert parse_codes("") == []
    for wrong in ("x", "5-3", "-4", "1.5", "0-99999999999"):
        with pytest.raises(ValueError, match="code"):
            parse_codes(wrong)


def test_what_can_not_be_painted_with_is_refused():
    with pytest.raises(ValueError, match="all 3 codes are banned"):
        listed_bias(3, [0, 1, 2], [])
    with pytest.raises(ValueError, match="code 3 is listed, the codebook has 0 to 2"):
        listed_bias(3, [], [3])
    with pytest.raises(ValueError, match="leave no code"):
        add_bias(listed_bias(3, [0], []), listed_bias(3, [1, 2], []))
    with pytest.raises(ValueError, match="no palette"):
        palette_bias(torch.zeros(3))
    with pytest.raises(ValueError, match="bans all codes"):
        SamplingSettings(bias=torch.full((3,), -math.inf))
    with pytest.raises(ValueError, match="the bias is for 3 codes, the prior has 40"):
        sample(tiny(), StartToken(), Canvas.empty(1, 2, 2), 0, SamplingSettings(bias=torch.zeros(3)))
