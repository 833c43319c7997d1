"""Files of every kind of pixel: transparency by pixels, gray of any width, packed depth; long strips."""

import numpy as np
import pytest
import torch
from PIL import Image

from tessera.core.conditions.maps import check_depth, labels_from_image, segmentation
from tessera.core.images.io import open_image, to_tensor
from tessera.core.images.resize import fit, fit_square, resize_labels
from tessera.training.config.runs import DataConfig
from tessera.training.data.augment import place, render_view


def depth_map() -> np.ndarray:
    """A slope with fine grain, as an estimator gives it."""
    rows, columns = np.mgrid[0:64, 0:96]
    return (200 + 40 * rows + 3 * columns + np.random.default_rng(0).normal(0, 0.3, rows.shape)).astype(np.float32)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_picture_that_is_opaque_everywhere_has_no_alpha_whatever_its_mode(tmp_path, mode):
    picture = Image.new("RGBA", (96, 48), (60, 90, 120, 255)).convert(mode)
    picture.save(tmp_path / "a.png", **({"transparency": 255} if mode == "P" else {}))
    read = open_image(tmp_path / "a.png")
    assert read.mode == "RGB"
    config = DataConfig(folder="pictures", size=32)
    view = render_view(read, place(read, config, None), config, None)
    assert (view == np.asarray(read)[0, 0]).all()  # it covers the view


def test_picture_with_one_transparent_pixel_keeps_its_alpha(tmp_path):
    picture = Image.new("RGBA", (8, 8), (60, 90, 120, 255))
    picture.putpixel((3, 3), (0, 0, 0, 254))
    picture.save(tmp_path / "a.png")
    assert open_image(tmp_path / "a.png").mode == "RGBA"


@pytest.mark.parametrize(
    ("low", "high", "kind"),
    [(0, 1, np.float32), (0, 80, np.float32), (-5, 3, np.float32), (0, 65535, np.uint16), (0, 2**31 - 1, np.int32)],
)
def test_gray_of_any_width_keeps_its_range(tmp_path, low, high, kind):
    ramp = np.linspace(low, high, 4096).reshape(16, 256).astype(kind)
    Image.fromarray(ramp).save(tmp_path / "ramp.tif")
    gray = np.asarray(open_image(tmp_path / "ramp.tif"))[..., 0].flatten()
    assert (gray[0], gray[-1], len(np.unique(gray))) == (0, 255, 256)
    assert (np.diff(gray.astype(int)) >= 0).all()


def test_gray_with_numbers_that_are_none_is_refused(tmp_path):
    values = np.full((4, 4), 0.5, np.float32)
    values[1, 1] = np.nan
    Image.fromarray(values).save(tmp_path / "nan.tif")
    with pytest.raises(ValueError, match=r"nan.tif holds NaN"):
        open_image(tmp_path / "nan.tif")


def test_depth_packed_into_rgba_is_unpacked(tmp_path):
    depth = depth_map()
    Image.fromarray(depth.view(np.uint8).reshape(*depth.shape, 4), "RGBA").save(tmp_path / "depth.png")
    read = np.asarray(open_image(tmp_path / "depth.png").convert("L"), dtype=float)
    wanted = (depth - depth.min()) / (depth.max() - depth.min()) * 255
    assert np.abs(read - wanted).max() < 1


def test_three_of_the_four_bytes_of_packed_depth_are_refused_as_depth():
    depth = depth_map()
    pixels = torch.from_numpy(depth.view(np.uint8).reshape(*depth.shape, 4)[..., :3].copy())
    with pytest.raises(ValueError, match="floating-point numbers packed"):
        check_depth(pixels.movedim(-1, 0)[None] / 127.5 - 1)
    plain = torch.rand(1, 3, 32, 32) * 2 - 1
    assert check_depth(plain) is plain


def test_half_transparent_photograph_stays_one(tmp_path):
    rows, columns = np.mgrid[0:64, 0:64]
    pixels = np.stack([rows, columns, rows + columns, np.full_like(rows, 64)], -1).astype(np.uint8)
    Image.fromarray(pixels, "RGBA").save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(open_image(tmp_path / "a.png")), pixels)


def gray(*levels: int) -> torch.Tensor:
    return (torch.tensor(levels).view(1, 1, 1, -1) / 127.5 - 1).expand(-1, 3, -1, -1)


def test_colored_label_map_without_a_palette_is_refused():
    colors = torch.tensor([[[0, 0, 3]], [[3, 0, 0]]]).movedim(-1, 0)[None] / 127.5 - 1  # means 1 and 1
    with pytest.raises(ValueError, match="colored"):
        labels_from_image(colors, None, 5)


def test_unlabeled_is_255_and_becomes_0_where_labels_start_at_1():
    assert labels_from_image(gray(0, 181, 255), None, 183, 1).tolist() == [[[1, 182, 0]]]
    with pytest.raises(ValueError, match="255 marks what is unlabelled"):
        segmentation(labels_from_image(gray(0, 181, 255), None, 182), 182)
    with pytest.raises(ValueError, match="choose 0, or 1"):
        labels_from_image(gray(0), None, 5, 2)


def test_long_strip_is_cut_before_it_is_scaled():
    strip = torch.linspace(-1, 1, 200_000).expand(1, 3, 2, -1)
    seen = []

    def scale(images, size):
        seen.append((tuple(images.shape[-2:]), size))
        return resize_labels(images, size)

    assert fit(strip, "square", 64, scale).shape == (1, 3, 64, 64)
    assert seen == [((2, 8), (64, 256))]
    assert fit_square(strip.movedim(-1, -2), 64).shape == (1, 3, 64, 64)
    with pytest.raises(ValueError, match="more than 64 million"):
        fit(strip, "whole picture", 64)


def test_square_of_a_common_picture_is_scaled_as_a_whole():
    picture = torch.rand(1, 3, 20, 70) * 2 - 1
    whole = torch.nn.functional.interpolate(picture, (40, 140), mode="bicubic", antialias=True).clamp(-1, 1)
    assert torch.equal(fit_square(picture, 40), whole[..., 50:90])
    assert to_tensor(Image.new("RGB", (3, 2))).shape == (1, 3, 2, 3)
