import pytest
import torch

from tessera.core.autoencoders.strips import decoder as strip_decoder
from tessera.core.autoencoders.strips import memory as strip_memory
from tessera.core.autoencoders.vqgan import VQGAN, VQGANConfig
from tessera.core.canvas.canvas import Canvas
from tessera.core.canvas.codec import (
    decode_canvas,
    decode_latents,
    encode_canvas,
    encode_latents,
    fill_unknown,
    lookup_codes,
    padding_of,
    quantize_latents,
)
from tessera.core.canvas.masks import mask_to_cells
from tessera.core.images.resize import pad_to_multiple

STRIDE, CODES = 4, 12


def tiny(**changes) -> VQGAN:
    torch.manual_seed(0)
    shape = {"channels": 32, "channel_mult": (1, 1, 1), "blocks_per_level": 1, "attention_levels": ()}
    codes = {"latent_channels": 4, "code_dim": 4, "codebook_size": CODES}
    model = VQGAN(VQGANConfig(**{**shape, **codes, **changes})).eval()
    torch.nn.init.normal_(model.codebook.embedding.weight)
    torch.nn.init.normal_(model.encoder.conv_out.weight, std=0.5)  # lively enough that several codes are used
    return model


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3)) * 2 - 1


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 8), (11, 14), (1, 5)])
def test_picture_of_any_size_comes_back_at_its_size(height, width):
    vqgan = tiny()
    canvas = encode_canvas(vqgan, noise(2, 3, height, width))
    assert canvas.size == (-(-height // STRIDE), -(-width // STRIDE))
    assert decode_canvas(vqgan, canvas).shape == (2, 3, height, width)


def test_codes_of_a_picture_are_those_of_the_padded_picture_and_do_not_depend_on_the_batch():
    vqgan, pictures = tiny(), noise(3, 3, 10, 7)
    with torch.inference_mode():
        expected = vqgan.encode_indices(pad_to_multiple(pictures, STRIDE))
    assert len(expected.unique()) > 3
    assert torch.equal(encode_canvas(vqgan, pictures).indices, expected)


def test_decoding_a_known_canvas_is_the_decoder_alone():
    vqgan = tiny()
    canvas = Canvas.filled(torch.arange(12).view(1, 3, 4))
    with torch.inference_mode():
        expected = vqgan.decode_indices(canvas.indices).clamp(-1, 1)
    assert torch.equal(decode_canvas(vqgan, canvas), expected)


def test_unknown_cells_are_gray_and_known_ones_are_not():
    vqgan = tiny()
    hole = torch.zeros(3, 4, dtype=torch.bool)
    hole[1, 2] = True
    picture = decode_canvas(vqgan, Canvas.filled(torch.arange(12).view(1, 3, 4)).forget(hole))
    gray = (picture == 0).all(1)[0]
    assert gray[4:8, 8:12].all()
    assert gray.sum() == STRIDE**2


def test_unknown_cells_are_decoded_with_known_codes_in_their_place():
    indices, known = torch.tensor([[5, 0], [7, 0]]), torch.tensor([[True, False], [True, False]])
    assert fill_unknown(indices, known).tolist() == [[5, 5], [7, 7]]
    assert torch.equal(fill_unknown(indices, torch.zeros_like(known)), indices)


def test_latents_quantize_to_the_canvas_and_keep_the_overhang():
    vqgan, picture = tiny(), noise(1, 3, 10, 8)
    canvas = quantize_latents(vqgan, encode_latents(vqgan, picture), padding_of(10, 8, STRIDE))
    assert torch.equal(canvas.indices, encode_canvas(vqgan, picture).indices)
    assert canvas.padding == (0.5, 0.0)


def test_latents_of_another_model_are_refused():
    with pytest.raises(ValueError, match=r"this VQGAN takes \[B, 4, h, w\]"):
        quantize_latents(tiny(), torch.zeros(1, 3, 2, 2))


def test_code_that_the_vqgan_does_not_have_is_refused():
    with pytest.raises(ValueError, match="the codebook has 0 to 11"):
        decode_canvas(tiny(), Canvas.filled(torch.full((1, 2, 2), 12)))


def test_large_pictures_are_decoded_in_strips_and_look_the_same(monkeypatch):
    vqgan, canvas = tiny(), Canvas.filled(torch.arange(12).view(2, 2, 3))
    codes, latents = lookup_codes(vqgan, canvas), encode_latents(vqgan, noise(2, 3, 8, 12))
    pictures = decode_canvas(vqgan, canvas), decode_latents(vqgan, latents)
    monkeypatch.setattr(strip_memory, "MIN_STRIP_MEMORY", strip_memory.decode_memory(vqgan.config, 2, 3, False) - 1)
    in_strips = decode_canvas(vqgan, canvas), decode_latents(vqgan, latents)
    for given, whole, found in zip((codes, latents), pictures, in_strips, strict=True):
        torch.testing.assert_close(found, whole, atol=1e-4, rtol=0)
        assert torch.equal(found, strip_decoder.decode_in_strips(vqgan, given).clamp(-1, 1))


def test_picture_of_a_canvas_that_wraps_goes_on_with_its_other_end():
    vqgan, canvas = tiny(), Canvas.filled(torch.arange(12).view(1, 3, 4)).with_wrap("both")
    picture = decode_canvas(vqgan, canvas)
    torch.testing.assert_close(
        decode_canvas(vqgan, canvas.roll(1, 3)), picture.roll((4, 12), (2, 3)), atol=1e-5, rtol=0
    )
    assert (picture - decode_canvas(vqgan, canvas.with_wrap("none"))).abs().max() > 1e-3


def test_latents_that_overhang_do_not_wrap():
    latents = encode_latents(tiny(), noise(1, 3, 8, 10))
    with pytest.raises(ValueError, match="make its width a multiple of a cell"):
        decode_latents(tiny(), latents, padding_of(8, 10, STRIDE), "x")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_latents_that_are_not_finite_or_not_there_are_refused(make_bundle, number):
    vqgan = make_bundle("none").vqgan
    for refused in (torch.full((1, 4, 2, 2), number), torch.zeros(0, 4, 2, 2)):
        for door in (quantize_latents, decode_latents):
            with pytest.raises(ValueError, match=r"latents contain NaN|latents have shape"):
                door(vqgan, refused)


def test_mask_that_is_not_finite_or_not_there_is_refused():
    for refused in (torch.full((1, 4, 4), float("nan")), torch.zeros(0, 4, 4), torch.full((1, 4, 4), float("inf"))):
        with pytest.raises(ValueError, match=r"the mask contains NaN|the mask has shape"):
            mask_to_cells(refused, Canvas.empty(1, 2, 2))
