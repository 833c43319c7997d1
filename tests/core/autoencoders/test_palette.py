"""A palette is a first stage whose codes are colors."""

import pytest
import torch

from tessera.core.autoencoders.palette import Palette
from tessera.core.autoencoders.vqgan_file import read_vqgan, save_vqgan
from tessera.core.canvas.canvas import Canvas
from tessera.core.canvas.codec import decode_canvas, encode_canvas


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    """Of five colors, a little noisy."""
    generator = torch.Generator().manual_seed(0)
    colors = torch.rand(5, 3, generator=generator) * 1.6 - 0.8
    flat = colors[torch.randint(5, (3, 8, 6), generator=generator)].permute(0, 3, 1, 2)
    return flat + 0.01 * torch.randn(flat.shape, generator=generator)


def test_k_means_finds_the_colors_of_pictures(pictures):
    palette = Palette.of_images(pictures, colors=8)
    canvas = encode_canvas(palette, pictures)
    assert canvas.indices.shape == (3, 8, 6)
    assert (decode_canvas(palette, canvas) - pictures).abs().max() < 0.06


def test_it_is_kept_in_a_file_and_leaves_what_it_is_given_alone(pictures, tmp_path):
    palette = Palette.of_images(pictures, colors=4)
    save_vqgan(tmp_path / "palette.safetensors", palette)
    again = read_vqgan(tmp_path / "palette.safetensors")
    assert isinstance(again, Palette)
    given = 2 * pictures.clone()
    before = given.clone()
    assert torch.equal(encode_canvas(again, given).indices, encode_canvas(palette, before).indices)
    assert torch.equal(given, before)


def test_unknown_pixels_are_gray(pictures):
    palette = Palette.of_images(pictures, colors=4)
    canvas = encode_canvas(palette, pictures)
    known = canvas.known.clone()
    known[:, 4:] = False
    assert not decode_canvas(palette, Canvas(canvas.indices, known))[:, :, 4:].any()


def test_a_gray_picture_of_one_channel_is_refused():
    with pytest.raises(ValueError, match="1 channels, a palette takes 3"):
        Palette.of_colors(torch.zeros(2, 3)).encode(torch.zeros(1, 1, 4, 4))
