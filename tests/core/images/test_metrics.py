import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from tessera.core.images.metrics import edge_agreement, psnr, ssim


def pictures(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


def channels_last(picture: torch.Tensor) -> np.ndarray:
    return picture.permute(1, 2, 0).numpy()


def test_psnr_by_hand():
    black = -torch.ones(2, 3, 4, 4)
    other = black.clone()
    other[0] += 0.2  # mean squared error 0.04, peak 2: 10 log10(4 / 0.04) = 20 dB
    other[1, :, :2] += 2  # half of the pixels wrong by the whole range: 10 log10(2)
    torch.testing.assert_close(psnr(black, other), torch.tensor([20.0, 10 * np.log10(2)], dtype=torch.float32))


def test_psnr_equals_skimage_picture_by_picture():
    a, b = pictures(3, 3, 20, 17), pictures(3, 3, 20, 17, seed=2)
    expected = [peak_signal_noise_ratio(x.numpy(), y.numpy(), data_range=2) for x, y in zip(a, b, strict=True)]
    torch.testing.assert_close(psnr(a, b), torch.tensor(expected, dtype=torch.float64))


def test_psnr_of_equal_pictures_is_finite_and_very_high():
    assert 100 <= psnr(pictures(1, 3, 8, 8), pictures(1, 3, 8, 8)).item() < 200


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_equals_skimage_away_from_the_border(channels):
    a = pictures(2, channels, 24, 31)
    b = (a + 0.3 * pictures(2, channels, 24, 31, seed=2)).clamp(-1, 1)
    expected = []
    for x, y in zip(a, b, strict=True):
        _, similarity = structural_similarity(
            channels_last((x + 1) / 2), channels_last((y + 1) / 2), data_range=1, channel_axis=2,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True, win_size=11,
        )  # fmt: skip
        expected.append(similarity[5:-5, 5:-5].mean())  # where the 11-pixel field lies inside
    torch.testing.assert_close(ssim(a, b), torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=1e-6)


def test_ssim_by_hand_on_flat_pictures():
    # flat pictures have no variance: only (2ab + c1) / (a^2 + b^2 + c1) is left, at 0.25 and 0.5 of 0..1
    dark, gray = torch.full((1, 3, 16, 16), -0.5), torch.zeros(1, 3, 16, 16)
    expected = (2 * 0.125 + 1e-4) / (0.0625 + 0.25 + 1e-4)
    assert ssim(dark, gray).item() == pytest.approx(expected, rel=1e-4)


def test_ssim_is_one_for_equal_pictures_and_falls_with_noise():
    a, noise = pictures(1, 3, 32, 32), pictures(1, 3, 32, 32, seed=2)
    assert ssim(a, a).item() == pytest.approx(1)
    near, far = ssim(a, a + 0.1 * noise).item(), ssim(a, a + 0.8 * noise).item()
    assert 1 > near > far > 0


def test_values_beyond_the_range_count_as_its_ends():
    a = pictures(1, 3, 16, 16)
    assert torch.equal(psnr(a * 3, a), psnr((a * 3).clamp(-1, 1), a))
    assert torch.equal(ssim(a * 3, a), ssim((a * 3).clamp(-1, 1), a))


def lines(*rows: int) -> torch.Tensor:
    """An edge picture [1, 1, 40, 40] with lines across at these rows."""
    picture = torch.full((1, 1, 40, 40), -1.0)
    picture[:, :, list(rows)] = 1
    return picture


@pytest.mark.parametrize(
    ("a", "b", "f1"),
    [
        ((10,), (10,), 1.0),
        ((10,), (12,), 1.0),  # two pixels off is near enough
        ((10,), (13,), 0.0),
        ((10, 30), (10,), 2 / 3),  # precision 1/2, recall 1
        ((), (), 1.0),
        ((10,), (), 0.0),
    ],
)
def test_edge_agreement_counts_lines_that_have_one_of_the_other_within_two_pixels(a, b, f1):
    assert edge_agreement(lines(*a), lines(*b)).tolist() == pytest.approx([f1])
    assert edge_agreement(lines(*b), lines(*a)).tolist() == pytest.approx([f1])
    both = edge_agreement(torch.cat([lines(*a), lines(5)]), torch.cat([lines(*b), lines(5)]))
    assert both.tolist() == pytest.approx([f1, 1.0])
