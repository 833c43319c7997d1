"""The noise of a draw: that it is uniform and independent over everything it depends on, and nothing else."""

import math

import pytest
import torch
from torch import Tensor

from tessera.core.sampling.logits import draw, warp
from tessera.core.sampling.noise import MAX_SEED, cell_keys, gumbel
from tessera.core.sampling.settings import SamplingSettings


def uniforms(noise: Tensor) -> Tensor:
    """Gumbel numbers as numbers in 0..1."""
    return noise.double().neg().exp().neg().exp()


def deviations(values: Tensor, bins: int) -> float:
    """Chi-square of values in 0..1 over equal bins, in standard deviations of a uniform sample."""
    counts = torch.histc(values.flatten(), bins, 0, 1)
    expected = values.numel() / bins
    return float((((counts - expected) ** 2 / expected).sum() - (bins - 1)) / math.sqrt(2 * (bins - 1)))


NOISE = uniforms(gumbel(cell_keys(0, 4, 32, 32), 512))  # [B, h, w, K]


def test_noise_is_uniform_as_a_whole_and_in_every_image_row_column_and_code():
    assert abs(deviations(NOISE, 1024)) < 4
    for dim in range(4):
        each = torch.tensor([deviations(part, 16) for part in NOISE.unbind(dim)])
        assert abs(each.mean()) < 5 / math.sqrt(len(each))
        assert each.max() < 7  # of up to 512, one in 10^8 is larger


@pytest.mark.parametrize("dim", range(4))
@pytest.mark.parametrize("lag", [1, 2, 3, 16])
def test_neighbors_in_every_input_are_independent(dim, lag):
    if NOISE.shape[dim] <= lag:
        pytest.skip("not as many images")
    first = NOISE.narrow(dim, 0, NOISE.shape[dim] - lag)
    second = NOISE.narrow(dim, lag, NOISE.shape[dim] - lag)
    correlation = 12 * ((first - 0.5) * (second - 0.5)).mean() * math.sqrt(first.numel())
    assert abs(float(correlation)) < 4.5
    pairs = ((first * 16).floor() * 16 + (second * 16).floor() + 0.5) / 256
    assert abs(deviations(pairs, 256)) < 4.5


@pytest.mark.parametrize("bit", [0, 1, 7, 31, 32, 33, 62])
def test_every_bit_of_the_seed_gives_other_noise(bit):
    other = uniforms(gumbel(cell_keys(2**bit, 1, 32, 32), 512))
    correlation = 12 * ((NOISE[:1] - 0.5) * (other - 0.5)).mean() * math.sqrt(other.numel())
    assert bit == 0 or abs(float(correlation)) < 4.5
    assert torch.equal(other[0], NOISE[1]) == (bit == 0)  # image 1 of seed 0 is image 0 of seed 1


def test_noise_has_the_mean_and_spread_of_gumbel_and_is_never_infinite():
    noise = gumbel(cell_keys(3, 2, 40, 40), 1024)
    assert abs(float(noise.mean()) - 0.577216) < 0.003
    assert abs(float(noise.std()) - math.pi / math.sqrt(6)) < 0.003
    assert noise.isfinite().all()
    assert noise.max() < 22.3
    assert noise.min() > -3.3
    words = torch.arange(2**31 - 8, 2**31, dtype=torch.int32)  # the smallest and largest bits that there can be
    v = torch.cat([words, torch.arange(8, dtype=torch.int32)]).float().add(0.5).mul(2.0**-31).clamp(max=1 - 2.0**-24)
    assert (-(-(-v).log1p()).log()).isfinite().all()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_winners_are_as_frequent_as_the_softmax_says(temperature):
    logits = 2 * torch.randn(60, generator=torch.Generator().manual_seed(1))
    settings = SamplingSettings(top_k=40)
    warped = warp(logits, settings, temperature)
    winners = draw(warped, gumbel(cell_keys(11, 40, 60, 60), 60))
    share = warped.double().softmax(0)
    counts, expected = torch.bincount(winners.flatten(), minlength=60), share * winners.numel()
    assert not counts[share == 0].any()
    kept = expected > 5
    chi = ((counts - expected)[kept] ** 2 / expected[kept]).sum()
    assert abs(float(chi) - int(kept.sum()) + 1) < 5 * math.sqrt(2 * int(kept.sum()))


def test_noise_does_not_depend_on_the_batch_the_canvas_or_the_order():
    whole = gumbel(cell_keys(7, 3, 9, 20), 100)
    assert torch.equal(gumbel(cell_keys(8, 2, 9, 20), 100), whole[1:])
    assert torch.equal(gumbel(cell_keys(7, 1, 4, 30), 100)[:, :, :20], whole[:1, :4])
    keys = cell_keys(7, 3, 9, 20)[:, 1, 5, [17, 3, 8]]
    assert torch.equal(gumbel(keys, 100), whole[1, 5, [17, 3, 8]])
    assert torch.equal(gumbel(keys, 60), whole[1, 5, [17, 3, 8], :60])


GOLDEN = [5.74687, 0.271841, -0.903166, 2.304434, 0.066851]
GOLDEN_FAR = [0.640551, 0.2965]


def test_noise_stays_what_it_was():
    """A canvas remembers its seed: a change here would paint other pictures from it."""
    found = gumbel(cell_keys(2024, 1, 3, 3), 5)[0, 2, 1]
    torch.testing.assert_close(found, torch.tensor(GOLDEN), atol=1e-5, rtol=0)
    found = gumbel(cell_keys(MAX_SEED, 2, 300, 1)[:, :, 299, 0], 16384)[:, 16383]
    torch.testing.assert_close(found, torch.tensor(GOLDEN_FAR), atol=1e-5, rtol=0)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_noise_is_the_same_on_every_device(device):
    if not getattr(torch, device).is_available():
        pytest.skip(f"no {device} here")
    keys = cell_keys(5, 2, 16, 16)
    there = cell_keys(5, 2, 16, 16, torch.device(device))
    assert torch.equal(there.cpu(), keys)
    torch.testing.assert_close(gumbel(there, 1024).cpu(), gumbel(keys, 1024), atol=1e-4, rtol=1e-5)
