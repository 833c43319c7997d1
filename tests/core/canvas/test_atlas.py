import pytest
import torch

from tessera.core.canvas.atlas import code_counts, codebook_atlas, colors_in, coprime, swatches
from tessera.core.canvas.canvas import Canvas


def test_every_code_has_a_swatch_from_the_middle_of_its_block(make_bundle):
    vqgan = make_bundle("none").vqgan
    found = swatches(vqgan)
    assert found.shape == (16, 3, 4, 4)
    assert len({tuple(patch.flatten().tolist()) for patch in found}) == 16
    mixed = (torch.arange(16) * coprime(16) % 16).repeat(16).view(1, 16, 16)
    with torch.inference_mode():
        page = vqgan.decode_indices(mixed.repeat_interleave(2, 1).repeat_interleave(2, 2)).clamp(-1, 1)[0]
    assert torch.allclose(found[mixed[0, 0, 3]], page[:, 2:6, 26:30], atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 16, 97, 1000, 1024, 16384])
def test_mixing_visits_each_code_once(size):
    assert len(set((torch.arange(size) * coprime(size) % size).tolist())) == size


def test_atlas_shows_all_codes_in_the_order_asked_for(make_bundle):
    vqgan = make_bundle("none").vqgan
    patches = swatches(vqgan)
    by_number = codebook_atlas(vqgan, "number")
    assert by_number.shape == (1, 3, 16, 16)
    assert torch.equal(by_number[0, :, 4:8, 8:12], patches[6])
    bright = patches.mean((1, 2, 3)).argmax()
    assert torch.equal(codebook_atlas(vqgan, "brightness")[0, :, :4, :4], patches[bright])


def test_codes_that_a_canvas_does_not_use_are_dimmed_and_come_last(make_bundle):
    vqgan = make_bundle("none").vqgan
    patches = swatches(vqgan)
    canvas = Canvas(torch.tensor([[[7, 7, 2], [9, 0, 0]]]), torch.tensor([[[True, True, True], [False, False, False]]]))
    shown = codebook_atlas(vqgan, "use", canvas)
    assert torch.equal(shown[0, :, :4, :4], patches[7])
    assert torch.equal(shown[0, :, :4, 4:8], patches[2])
    assert torch.allclose(shown[0, :, :4, 8:12], patches[0] * 0.15 - 0.6)
    assert code_counts(canvas, 16).tolist() == [0, 0, 1, 0, 0, 0, 0, 2] + [0] * 8


def test_order_by_use_wants_a_canvas_and_codes_that_exist(make_bundle):
    with pytest.raises(ValueError, match="give a canvas"):
        codebook_atlas(make_bundle("none").vqgan, "use")
    with pytest.raises(ValueError, match="holds code 16, the codebook has 0 to 15"):
        code_counts(Canvas.filled(torch.tensor([[[16]]])), 16)
    assert code_counts(None, 3).tolist() == [1, 1, 1]


def test_color_of_a_code_is_the_mean_of_its_cells():
    images = torch.zeros(1, 1, 4, 6)  # 4 pixels a cell; the last column of cells is half as wide
    images[..., :4], images[..., 4:] = 0.5, -1.0
    canvas = Canvas.filled(torch.tensor([[[2, 0]]])).with_padding((0.0, 0.5))
    assert colors_in(canvas, images, 4, 4).tolist() == [[0] * 3, [128] * 3, [191] * 3, [128] * 3]
    images[..., 4:] = 1.0
    twice = Canvas.filled(torch.tensor([[[2, 2]]])).with_padding((0.0, 0.5))
    assert colors_in(twice, images, 4, 4)[2].tolist() == [223] * 3
