import pytest
import torch

from tessera.core.images.resize import fit, fit_square, resize_labels, resize_lines
from tessera.core.images.tiles import tile_images


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3)) * 2 - 1


@pytest.mark.parametrize(("height", "width"), [(40, 64), (64, 40), (10, 12)])
def test_square_is_the_middle_at_the_windows_size(height, width):
    picture = noise(2, 3, height, width)
    assert torch.equal(fit(picture, "square", 32), fit_square(picture, 32))


def test_whole_picture_keeps_its_proportions():
    assert fit(noise(1, 3, 40, 80), "whole picture", 32).shape == (1, 3, 32, 64)
    assert fit(noise(1, 3, 41, 40), "whole picture", 32).shape == (1, 3, 33, 32)


def test_original_size_only_changes_pictures_smaller_than_the_window():
    picture = noise(1, 3, 40, 33)
    assert torch.equal(fit(picture, "original size", 32), picture)
    assert fit(noise(1, 3, 16, 48), "original size", 32).shape == (1, 3, 32, 96)


def test_thin_lines_stay_white_when_they_get_smaller():
    lines = torch.full((1, 1, 64, 64), -1.0)
    lines[..., 31] = 1
    small = fit(lines, "square", 16, resize_lines)
    assert small[..., 7].eq(1).all()
    assert small.sum() == 16 - 15 * 16
    assert fit(lines, "square", 16).max() < 0.5


def test_label_colors_are_not_mixed():
    labels = torch.randint(3, (1, 1, 50, 70), generator=torch.Generator().manual_seed(1)) - 1.0
    assert set(fit(labels, "square", 32, resize_labels).unique().tolist()) == {-1.0, 0.0, 1.0}


def test_unknown_way_is_refused():
    with pytest.raises(ValueError, match="use square, whole picture, original size"):
        fit(noise(1, 3, 8, 8), "stretch", 8)


def test_tiles_keep_their_order_and_empty_places_are_black():
    pictures = torch.stack([torch.full((1, 2, 3), value) for value in (0.1, 0.2, 0.3)])
    sheet = tile_images(pictures, gap=1)
    assert sheet.shape == (1, 1, 5, 7)
    assert sheet[0, 0, 0].tolist() == pytest.approx([0.1] * 3 + [-1] + [0.2] * 3)
    assert sheet[0, 0, 2].tolist() == [-1] * 7
    assert sheet[0, 0, 4].tolist() == pytest.approx([0.3] * 3 + [-1] * 4)
