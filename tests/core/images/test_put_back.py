"""The photograph is given back: only what was painted is new."""

import pytest
import torch

from tessera.core.images.put_back import Region, cut_out, put_back, region_around


def painted_at(height: int, width: int, top: int, left: int, side: int) -> torch.Tensor:
    mask = torch.zeros(1, height, width)
    mask[:, top : top + side, left : left + side] = 1
    return mask


def test_untouched_pixels_are_the_originals_to_the_bit_and_painted_ones_are_new():
    original, painted = torch.rand(1, 3, 40, 60), torch.rand(1, 3, 40, 60)
    mask = painted_at(40, 60, 10, 20, 8)
    result = put_back(painted, original, mask, feather=5)
    assert torch.equal(result[..., 10:18, 20:28], painted[..., 10:18, 20:28])
    far = torch.ones(40, 60, dtype=torch.bool)
    far[4:24, 14:34] = False  # beyond mask and feather
    assert torch.equal(result[..., far], original[..., far])
    between = result[0, 0, 14, 28:33], original[0, 0, 14, 28:33], painted[0, 0, 14, 28:33]
    shares = (between[0] - between[1]) / (between[2] - between[1])
    assert (shares.diff() < 0).all()  # fades out
    assert 0 < shares[-1] < shares[0] < 1


def test_gray_of_the_mask_is_a_mix_in_proportion():
    original, painted = torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)
    assert put_back(painted, original, torch.full((1, 8, 8), 0.25), feather=0).unique().tolist() == [0.25]


def test_a_region_goes_back_where_it_was_and_is_scaled_if_it_has_to_be():
    original = torch.zeros(1, 3, 64, 96)
    mask = painted_at(64, 96, 30, 50, 10)
    region = region_around(mask, 64, 96, side=24, margin=2)
    assert region == Region(23, 43, 24, 24)
    assert torch.equal(cut_out(mask, region).nonzero().amin(0)[1:], torch.tensor([7, 7]))
    result = put_back(torch.ones(2, 3, 48, 48), original, mask, 0, region)
    assert result.shape == (2, 3, 64, 96)
    assert torch.allclose(result[:, 0], mask.expand(2, -1, -1), atol=1e-5)


@pytest.mark.parametrize(("top", "left", "expected"), [(0, 0, (0, 0)), (54, 86, (32, 64))])
def test_the_region_stays_inside_the_picture_and_has_all_that_is_painted(top, left, expected):
    region = region_around(painted_at(64, 96, top, left, 10), 64, 96, side=32, margin=4)
    assert region == Region(*expected, 32, 32)


def test_a_large_hole_gives_a_larger_region():
    region = region_around(painted_at(64, 96, 2, 10, 50), 64, 96, side=32, margin=4)
    assert (region.height, region.width) == (58, 58)


def test_what_can_not_be_is_refused_in_a_sentence():
    picture = torch.zeros(1, 3, 8, 8)
    with pytest.raises(ValueError, match="paints nothing"):
        region_around(torch.zeros(1, 8, 8), 8, 8, 4, 0)
    with pytest.raises(ValueError, match="reaches beyond a picture of 8x8"):
        put_back(picture, picture, torch.ones(1, 8, 8), 0, Region(4, 4, 8, 8))
    with pytest.raises(ValueError, match="feather is -1"):
        put_back(picture, picture, torch.ones(1, 8, 8), -1)
