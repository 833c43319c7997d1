import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from tessera.core.conditions.edges import EdgeSettings, canny, centerlines
from tessera.core.conditions.maps import depth, labels_from_colors, low_resolution, segmentation
from tessera.core.images.io import check_images, open_image, to_pil, to_tensor
from tessera.core.images.resize import fit_square, pad_to_multiple


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, channels), dtype=np.uint8).squeeze()


def random_images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG whose header speaks of a size that its few bytes do not hold."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def encoded(picture: Image.Image, form: str) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form)
    return stream.getvalue()


# reading files


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.bmp", "a.tiff", "wrong extension.txt"])
def test_picture_file_comes_back_as_its_pixels(tmp_path, name):
    pixels = noise(5, 7)
    form = {"webp": "webp", "bmp": "bmp", "tiff": "tiff"}.get(name.split(".")[-1], "png")
    Image.fromarray(pixels).save(tmp_path / name, form, lossless=True)
    picture = open_image(tmp_path / name)
    assert picture.mode == "RGB"
    assert np.array_equal(np.asarray(picture), pixels)


def test_transparent_picture_keeps_its_alpha_and_is_laid_on_white(tmp_path):
    pixels = np.zeros((1, 3, 4), dtype=np.uint8)
    pixels[0, :, 3] = 255, 0, 51  # black: opaque, clear, a fifth
    Image.fromarray(pixels).save(tmp_path / "a.png")
    picture = open_image(tmp_path / "a.png")
    assert picture.mode == "RGBA"
    shades = ((to_tensor(picture)[0, :, 0] + 1) * 127.5).round().long()
    assert shades.tolist() == [[0, 255, 204]] * 3


def test_palette_with_a_transparent_color_counts_as_transparent(tmp_path):
    picture = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), "L").convert("P")
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.save(tmp_path / "a.png", transparency=0)
    loaded = open_image(tmp_path / "a.png")
    assert np.asarray(loaded).tolist() == [[[255, 0, 0, 0], [0, 255, 0, 255]]]


def test_gray_and_sixteen_bit_gray_keep_their_shades(tmp_path):
    shades = np.array([[0, 64, 128, 255]], dtype=np.uint8)
    Image.fromarray(shades).save(tmp_path / "gray.png")
    Image.fromarray(shades.astype(np.uint16) * 257).save(tmp_path / "fine gray.png")
    for name in ("gray.png", "fine gray.png"):
        picture = open_image(tmp_path / name)
        assert picture.mode == "RGB"
        assert np.array_equal(np.asarray(picture)[..., 0], shades), name


def test_photograph_taken_sideways_stands_upright(tmp_path):
    picture = Image.new("RGB", (20, 10), "black")
    picture.paste("white", (0, 0, 10, 10))
    tags = picture.getexif()
    tags[0x0112] = 6  # turn a quarter clockwise to look at it
    picture.save(tmp_path / "a.jpg", exif=tags)
    upright = open_image(tmp_path / "a.jpg")
    assert upright.size == (10, 20)
    assert np.asarray(upright)[2, 5, 0] > 200 > 50 > np.asarray(upright)[17, 5, 0]


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff\xe0", bytes(500)])
def test_file_that_is_no_picture_is_refused_by_name(tmp_path, content):
    path = tmp_path / "notes.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"notes\.png can't be read as a picture.*PNG, JPEG or WebP"):
        open_image(path)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_picture_cut_short_is_refused_in_one_way(tmp_path, form):
    whole, path = encoded(Image.fromarray(noise(40, 40)), form), tmp_path / "short"
    for percent in (0, 1, 5, 10, 30, 50, 80):
        path.write_bytes(whole[: len(whole) * percent // 100])
        with pytest.raises(ValueError, match="short can't be read as a picture"):
            open_image(path)


def test_missing_file_and_folder_are_named(tmp_path):
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"(does not exist|is a folder); give the path of a picture file"):
            open_image(path)


@pytest.mark.parametrize(("width", "height"), [(8001, 8000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_picture_that_would_unpack_to_too_many_pixels_is_refused_unopened(tmp_path, width, height):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_that_claims(width, height))
    with pytest.raises(ValueError, match=r"bomb\.png.*scale it down first"):
        open_image(path)


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (0, 0)])
def test_picture_without_pixels_is_refused(tmp_path, width, height):
    path = tmp_path / "nothing.png"
    path.write_bytes(png_that_claims(width, height))
    with pytest.raises(ValueError, match=r"nothing\.png"):
        open_image(path)


# tensors


def test_black_is_minus_one_and_white_is_one():
    picture = Image.fromarray(np.array([[[0, 255, 51]]], dtype=np.uint8))
    torch.testing.assert_close(to_tensor(picture).flatten(), torch.tensor([-1.0, 1.0, -0.6]))


def test_every_shade_survives_the_way_to_a_tensor_and_back():
    shades = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    back = to_pil(to_tensor(Image.fromarray(shades)))[0]
    assert np.array_equal(np.asarray(back), shades)


def test_values_beyond_the_range_are_clamped_and_gray_becomes_rgb():
    pictures = to_pil(torch.tensor([-9.0, 0.0, 9.0]).view(3, 1, 1, 1))
    assert [p.mode for p in pictures] == ["RGB"] * 3
    assert [p.getpixel((0, 0)) for p in pictures] == [(0, 0, 0), (128, 128, 128), (255, 255, 255)]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 8, 8), r"has shape \(3, 8, 8\); expected"),
        (torch.zeros(1, 4, 8, 8), r"has shape \(1, 4, 8, 8\); expected"),
        (torch.zeros(1, 8, 8, 3), r"has shape \(1, 8, 8, 3\); expected"),
        (torch.zeros(0, 3, 8, 8), "is empty"),
        (torch.zeros(1, 3, 0, 8), "is empty"),
        (torch.zeros(1, 1, 1, 1).expand(1, 1, 8001, 8000), "8000x8001 pixels, more than 64 million"),
        (torch.full((1, 3, 2, 2), torch.nan), "NaN or infinite"),
        (torch.tensor([0.0, torch.inf, 0.0]).view(1, 3, 1, 1), "NaN or infinite"),
    ],
)
def test_tensor_that_is_no_picture_is_refused_with_what_is_wrong(images, message):
    with pytest.raises(ValueError, match=message):
        check_images(images)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (15, 16), (16, 16), (17, 33), (31, 40)])
def test_padded_picture_fits_the_stride_and_crops_back(height, width):
    images = random_images(2, 3, height, width)
    padded = pad_to_multiple(images, 16)
    assert padded.shape[2] % 16 == padded.shape[3] % 16 == 0
    assert padded.shape[2] - height < 16 > padded.shape[3] - width
    assert torch.equal(padded[..., :height, :width], images)
    assert torch.equal(padded[..., -1, :width], images[..., -1, :])  # the border is repeated, not mirrored or black
    assert torch.equal(padded[..., :height, -1], images[..., :, -1])


@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 16), (8, 20), (30, 9), (4, 6), (100, 30)])
def test_square_is_the_middle_of_the_scaled_picture(height, width):
    ramp = torch.linspace(-1, 1, max(height, width))
    images = ramp.view(1, 1, -1, 1) if height > width else ramp.view(1, 1, 1, -1)
    square = fit_square(images.expand(1, 3, height, width), 8)
    assert square.shape == (1, 3, 8, 8)
    assert square.abs().max() <= 1
    assert abs(square.mean().item()) < 0.1  # a ramp cut in the middle stays about zero


# edges


def test_edges_of_a_square_are_its_outline():
    images = -torch.ones(1, 3, 40, 40)
    images[..., 10:30, 10:30] = 1
    found = canny(images)[0, 0]
    assert set(found.unique().tolist()) == {-1.0, 1.0}
    rows, columns = (found > 0).nonzero().unbind(1)
    nearest = torch.minimum(  # to the four sides, which lie between the pixels 9|10 and 29|30
        torch.minimum((rows - 9.5).abs(), (rows - 29.5).abs()),
        torch.minimum((columns - 9.5).abs(), (columns - 29.5).abs()),
    )
    assert nearest.max() <= 1.5
    assert (found[20] > 0).sum() == (found[:, 20] > 0).sum() == 2  # thin: one pixel a side
    assert not (found[:8] > 0).any()


def test_flat_picture_has_no_edges():
    assert (canny(torch.full((2, 3, 16, 16), 0.3)) == -1).all()


def test_edges_do_not_depend_on_the_rest_of_the_batch():
    images = random_images(3, 3, 24, 24)
    assert torch.equal(canny(images)[1:2], canny(images[1:2]))


def test_higher_thresholds_leave_fewer_edges():
    images = random_images(1, 3, 48, 48)
    counts = [
        int((canny(images, EdgeSettings(low=low, high=high, blur=1)) > 0).sum())
        for low, high in [(10, 20), (50, 100), (300, 600)]
    ]
    assert counts[0] > counts[1] > counts[2]


@pytest.mark.parametrize(("low", "high"), [(200, 100), (-1, 100), (float("nan"), 100)])
def test_thresholds_out_of_order_are_refused(low, high):
    with pytest.raises(ValueError, match="need 0 <= low <= high"):
        EdgeSettings(low=low, high=high)


def test_strokes_are_the_middle_of_thick_lines():
    images = torch.ones(1, 1, 21, 40)
    images[..., 8:13, 5:35] = -1  # a bar five pixels thick
    found = centerlines(images)[0, 0] > 0
    assert found[10, 10:30].all()
    assert found.sum() == found[10].sum()
    assert 20 <= found.sum() <= 30


def test_strokes_of_a_ring_stay_closed_and_an_empty_sheet_empty():
    y, x = torch.meshgrid(torch.arange(40) - 20, torch.arange(40) - 20, indexing="ij")
    radius = (x * x + y * y).float().sqrt()
    ring = torch.where((radius > 9) & (radius < 15), -1.0, 1.0).view(1, 1, 40, 40)
    found = centerlines(ring)[0, 0] > 0
    assert found.sum() < (ring < 0).sum() / 3
    outside = torch.zeros(40, 40, dtype=torch.bool)
    outside[0, 0] = True
    for _ in range(80):  # what can be reached from the corner without crossing the line
        reached = torch.nn.functional.max_pool2d(outside.float()[None, None], (3, 1), 1, (1, 0))
        reached = torch.maximum(reached, torch.nn.functional.max_pool2d(outside.float()[None, None], (1, 3), 1, (0, 1)))
        outside = (reached[0, 0] > 0) & ~found
    assert not outside[20, 20]
    assert not (centerlines(torch.ones(1, 3, 8, 8)) > 0).any()


# the other conditions


def test_depth_is_stretched_to_the_whole_range_picture_by_picture():
    images = torch.tensor([[0.2, 0.3, 0.4], [5.0, 25.0, 10.0]]).view(2, 1, 1, 3)
    torch.testing.assert_close(depth(images).view(2, 3), torch.tensor([[-1.0, 0.0, 1.0], [-1.0, 1.0, -0.5]]))


def test_depth_takes_the_mean_of_colors_and_a_flat_picture_is_far():
    images = torch.tensor([[0.0, 0.0, 0.0], [0.3, 0.6, 0.9]]).T.view(1, 3, 1, 2)
    assert depth(images).flatten().tolist() == [-1, 1]
    assert (depth(torch.full((1, 3, 4, 4), 0.7)) == -1).all()


def test_segmentation_is_one_channel_a_label():
    found = segmentation(torch.tensor([[[0, 2], [1, 1]]]), 3)
    assert found.tolist() == [[[[1, 0], [0, 0]], [[0, 0], [1, 1]], [[0, 1], [0, 0]]]]


@pytest.mark.parametrize("label", [-1, 3])
def test_label_that_the_model_does_not_know_is_refused(label):
    with pytest.raises(ValueError, match="this model knows 0 to 2"):
        segmentation(torch.tensor([[[0, label]]]), 3)


def test_labels_are_those_of_the_nearest_palette_colors():
    palette = torch.tensor([[0, 0, 0], [255, 0, 0], [0, 255, 0], [255, 255, 255]])
    wanted = torch.randint(4, (2, 6, 7), generator=torch.Generator().manual_seed(2))
    images = palette[wanted].movedim(-1, 1) / 127.5 - 1
    smudged = (images + 0.3 * random_images(2, 3, 6, 7)).clamp(-1, 1)
    assert torch.equal(labels_from_colors(smudged, palette), wanted)
    assert torch.equal(labels_from_colors(smudged, torch.cat([palette, palette])), wanted)  # the first of equal colors


def test_low_resolution_keeps_the_size_and_loses_the_detail():
    images = torch.ones(1, 3, 16, 16)
    images[..., ::2] = -1  # lines that a quarter of the pixels can't show
    found = low_resolution(images, 4)
    assert found.shape == images.shape
    assert found.abs().max() < 0.2
    flat = torch.full((2, 3, 16, 20), 0.5)
    torch.testing.assert_close(low_resolution(flat, 4), flat, atol=1 / 127.5, rtol=0)  # in 8 bits


@pytest.mark.parametrize("factor", [0, -2, 17])
def test_factor_that_does_not_fit_the_picture_is_refused(factor):
    with pytest.raises(ValueError, match=f"factor {factor} does not fit a 20x16 picture; choose 1 to 16"):
        low_resolution(torch.zeros(1, 3, 16, 20), factor)


@pytest.mark.parametrize("prepare", [canny, centerlines, depth, lambda x: low_resolution(x, 2)])
def test_condition_of_a_broken_picture_is_refused(prepare):
    for images in (torch.full((1, 3, 8, 8), torch.nan), torch.zeros(1, 4, 8, 8), torch.zeros(1, 3, 0, 8)):
        with pytest.raises(ValueError, match="the"):
            prepare(images)
