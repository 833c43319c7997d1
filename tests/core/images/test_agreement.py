"""A large image made to agree with the small one it came from."""

import pytest
import torch
import torch.nn.functional as F

from tessera.core.images.agreement import agree
from tessera.core.images.metrics import psnr


def leaf(batch: int, side: int) -> torch.Tensor:
    """A disk with hard borders, another for each image, within -1..1 by far."""
    line = torch.linspace(-1, 1, side)
    radius = torch.linspace(0.4, 0.7, batch).view(-1, 1, 1, 1)
    inside = (line.square() + line.view(-1, 1).square()).sqrt() < radius
    return torch.where(inside, 0.5, -0.4).expand(-1, 3, -1, -1).contiguous()


def made_small(images: torch.Tensor) -> torch.Tensor:
    return F.interpolate(images, scale_factor=0.25, mode="bicubic", antialias=True)


def test_made_small_again_it_is_the_small_one_and_its_detail_stays():
    true = leaf(2, 64)
    small = made_small(true)
    painted = true * 0.8 + 0.15  # the right lines in the wrong colors
    found = agree(painted, small)
    assert (made_small(found) - small).abs().max() < 1 / 255
    assert (psnr(found, true) > psnr(painted, true) + 8).all()
    smooth = agree(F.interpolate(small, scale_factor=4.0, mode="bicubic"), small)
    assert (psnr(found, true) > psnr(smooth, true) + 2).all(), "what was painted sharp must stay so"


def test_what_agrees_already_is_left_alone():
    true = leaf(1, 64)
    torch.testing.assert_close(agree(true, made_small(true)), true, atol=1e-5, rtol=0)


def test_one_small_image_serves_many_and_sides_need_not_divide():
    small = made_small(leaf(1, 64))
    assert agree(torch.zeros(3, 3, 64, 64), small).shape == (3, 3, 64, 64)
    odd = agree(torch.zeros(1, 3, 63, 47), torch.full((1, 3, 16, 12), 0.5))
    assert odd.shape == (1, 3, 63, 47)
    torch.testing.assert_close(odd, torch.full_like(odd, 0.5), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("images", "small", "message"),
    [
        (torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 128, 128), "the small picture is 128x128 pixels, the large one"),
        (torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 16, 24), "give the one that it was made from, whole"),
        (torch.zeros(3, 3, 64, 64), torch.zeros(2, 3, 16, 16), "3 large pictures and 2 small ones"),
        (torch.full((1, 3, 64, 64), torch.nan), torch.zeros(1, 3, 16, 16), "the large picture"),
    ],
)
def test_what_does_not_belong_together_is_refused(images, small, message):
    with pytest.raises(ValueError, match=message):
        agree(images, small)
