import math

import pytest
import torch
from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from tessera.core.sampling.logits import apply_guidance, draw, keep_min_p, keep_top_k, keep_top_p, warp
from tessera.core.sampling.noise import cell_keys, gumbel
from tessera.core.sampling.settings import SamplingSettings


def random_logits(batch: int, size: int, spread: float = 2.0) -> torch.Tensor:
    return spread * torch.randn(batch, size, generator=torch.Generator().manual_seed(size))


def noise_for(logits: torch.Tensor, seed: int = 7) -> torch.Tensor:
    """Noise of as many cells and codes."""
    return gumbel(cell_keys(seed, 1, 1, len(logits))[:, 0, 0], logits.shape[1])


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0, 1.7, 100.0])
@pytest.mark.parametrize("size", [2, 37, 1024])
def test_temperature_equals_that_of_the_transformers_library(temperature, size):
    logits = random_logits(8, size)
    theirs = TemperatureLogitsWarper(temperature)(None, logits)
    torch.testing.assert_close(warp(logits, SamplingSettings(), temperature), theirs)


@pytest.mark.parametrize("k", [1, 2, 5, 36, 37, 38, 1000])
def test_top_k_equals_that_of_the_transformers_library(k):
    logits = random_logits(8, 37)
    assert torch.equal(keep_top_k(logits, k), TopKLogitsWarper(k)(None, logits))


@pytest.mark.parametrize("p", [0.01, 0.2, 0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("size", [2, 37, 1024])
@pytest.mark.parametrize("spread", [0.3, 2.0, 8.0])
def test_top_p_equals_that_of_the_transformers_library(p, size, spread):
    logits = random_logits(8, size, spread)
    assert torch.equal(keep_top_p(logits, p), TopPLogitsWarper(p)(None, logits))


@pytest.mark.parametrize("p", [0.001, 0.05, 0.3, 0.99, 1.0])
@pytest.mark.parametrize("size", [2, 37, 1024])
@pytest.mark.parametrize("spread", [0.3, 2.0, 8.0])
def test_min_p_equals_that_of_the_transformers_library(p, size, spread):
    logits = random_logits(8, size, spread)
    assert torch.equal(keep_min_p(logits, p), MinPLogitsWarper(p)(None, logits))


@pytest.mark.parametrize(
    ("temperature", "k", "p", "m"), [(0.7, 50, 0.9, 0.05), (1.5, 10, 0.5, 0.1), (1.2, 3, 0.99, 0.0)]
)
def test_all_together_apply_in_the_order_temperature_top_k_top_p_min_p(temperature, k, p, m):
    logits = random_logits(8, 200)
    theirs = TopKLogitsWarper(k)(None, TemperatureLogitsWarper(temperature)(None, logits))
    theirs = MinPLogitsWarper(m)(None, TopPLogitsWarper(p)(None, theirs))
    ours = warp(logits, SamplingSettings(top_k=k, top_p=p, min_p=m), temperature)
    torch.testing.assert_close(ours, theirs)


def test_everything_is_off_by_default():
    logits = random_logits(4, 50)
    assert torch.equal(warp(logits, SamplingSettings(), SamplingSettings().temperature), logits)


def test_codes_equal_to_the_kth_survive_with_it():
    kept = keep_top_k(torch.tensor([[1.0, 3.0, 1.0, 0.0, 1.0]]), 2)
    assert kept.isfinite().tolist() == [[True, True, True, False, True]]


def test_nucleus_always_keeps_the_most_likely_code():
    kept = keep_top_p(torch.tensor([[0.0, 5.0, 1.0]]), 1e-6)
    assert kept.isfinite().tolist() == [[False, True, False]]


def test_each_picture_has_its_own_temperature():
    logits = random_logits(3, 20)
    warped = warp(logits, SamplingSettings(), torch.tensor([[0.5], [1.0], [2.0]]))
    torch.testing.assert_close(warped, torch.stack([logits[0] * 2, logits[1], logits[2] / 2]))


def test_half_precision_logits_are_warped_in_float32():
    assert warp(random_logits(1, 5).half(), SamplingSettings(), 0.7).dtype == torch.float32


def test_temperature_zero_takes_the_most_likely_code_whatever_the_noise():
    logits = random_logits(500, 64)
    drawn = draw(warp(logits, SamplingSettings(), 0.0), noise_for(logits))
    assert torch.equal(drawn, logits.argmax(1))


def test_draw_adds_the_noise_of_each_code_by_hand():
    logits = torch.tensor([0.2, 0.5, 0.3]).log().expand(3, 3)
    noise = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.6]])
    assert draw(logits, noise).tolist() == [1, 0, 2]


@pytest.mark.parametrize("size", [2, 30, 1024, 16384])
def test_code_that_was_left_out_is_never_drawn(size):
    for k in (1, 2, 7, size // 2):
        logits = keep_top_k(random_logits(50, size), k)
        drawn = draw(logits, noise_for(logits))
        assert logits.gather(1, drawn[:, None]).isfinite().all()


def test_guidance_goes_from_without_the_condition_through_it_and_beyond():
    logits, free = random_logits(50, 64), random_logits(50, 65)[:, :64] + 3.0
    expected = {0.0: free, 1.0: logits, 2.0: 2 * logits - free}  # equal up to a constant a row
    for guidance, wanted in expected.items():
        mixed = apply_guidance(torch.stack([logits, free]), (guidance, 1 - guidance))
        torch.testing.assert_close(mixed.softmax(-1), wanted.softmax(-1))


@pytest.mark.parametrize(("first", "second"), [(0.8, 0.85), (1.0, 1.05), (1.0, 0.8)])
def test_small_change_of_temperature_alters_hardly_more_draws_than_it_must(first, second):
    logits = random_logits(4000, 256)
    one, other = ((logits / t).softmax(1) for t in (first, second))
    least = (one - other).abs().sum(1).mean() / 2  # total variation: no way to draw changes fewer
    drawn = [draw(warp(logits, SamplingSettings(), t), noise_for(logits)) for t in (first, second)]
    changed = (drawn[0] != drawn[1]).float().mean()
    assert 0.8 * least < changed < 1.6 * least
    again = draw(warp(logits, SamplingSettings(), second), noise_for(logits, 5000))  # new noise instead
    assert (drawn[0] != again).float().mean() > 0.8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": -0.1}, r"temperature -0\.1.* 0 to 100"),
        ({"temperature": 100.5}, "temperature 100.5"),
        ({"temperature": math.nan}, "temperature nan"),
        ({"temperature": math.inf}, "temperature inf"),
        ({"temperature": torch.tensor([[1.0, math.nan]])}, "temperature nan"),
        ({"temperature": torch.tensor([[1.0, 2.0], [-3.0, 1.0]])}, "temperature -3"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_k": 2.5}, "top_k is 2.5"),
        ({"top_p": 0.0}, "top_p is 0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"top_p": math.nan}, "top_p is nan"),
        ({"min_p": -0.1}, "min_p is -0.1"),
        ({"min_p": 1.1}, "min_p is 1.1"),
        ({"min_p": math.nan}, "min_p is nan"),
        ({"guidance_scale": -0.5}, "guidance is -0.5"),
        ({"guidance_scale": 21}, "guidance is 21; choose 0 to 20, 1 is off"),
        ({"guidance_scale": math.nan}, "guidance is nan"),
    ],
)
def test_setting_out_of_range_is_refused_with_its_value(changes, message):
    with pytest.raises(ValueError, match=message):
        SamplingSettings(**changes)


@pytest.mark.parametrize(
    "changes", [{"temperature": 0}, {"temperature": 100}, {"top_p": 1}, {"min_p": 0}, {"min_p": 1}]
)
def test_limits_themselves_are_allowed(changes):
    SamplingSettings(**changes)
