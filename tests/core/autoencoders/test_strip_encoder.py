import pytest
import torch

from tessera.core.autoencoders.strips import layers as strip_layers
from tessera.core.autoencoders.strips.encoder import encode, encode_in_strips, encode_indices
from tessera.core.autoencoders.strips.memory import encode_memory
from tessera.core.autoencoders.vqgan import VQGANConfig
from tessera.tests.core.autoencoders.test_strip_decoder import SHAPES, tiny


def picture(model, batch: int, height: int, width: int) -> torch.Tensor:
    shape = batch, model.config.image_channels, height * model.config.stride, width * model.config.stride
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("strip", [1, 3000])
@pytest.mark.parametrize("changes", [*SHAPES, {"attention_levels": (2,)}])
def test_latents_in_strips_are_those_of_the_whole(changes, strip, monkeypatch):
    monkeypatch.setattr(strip_layers, "STRIP", strip)
    monkeypatch.setattr(strip_layers, "QUERIES", strip)
    model = tiny(**changes)
    images = picture(model, 2, 3, 5)
    torch.testing.assert_close(encode_in_strips(model, images), model.encode(images), atol=1e-4, rtol=1e-4)
    assert torch.equal(encode_indices(model, images, memory=0), model.encode_indices(images))
    model, images = model.double(), images.double()
    torch.testing.assert_close(encode_in_strips(model, images), model.encode(images), atol=1e-9, rtol=1e-9)


def test_a_picture_is_encoded_the_same_way_whatever_the_batch_around_it():
    model = tiny()
    images = picture(model, 3, 4, 4)
    enough = encode_memory(model.config, 4, 4, False)
    assert torch.equal(encode(model, images, enough), model.encode(images))
    assert torch.equal(encode(model, images, enough - 1), encode_in_strips(model, images))


def test_pictures_that_do_not_fit_are_refused_as_by_the_whole():
    model = tiny()
    with pytest.raises(ValueError, match="must be multiples of 4; pad it first"):
        encode(model, torch.zeros(1, 3, 8, 9), memory=0)
    with pytest.raises(ValueError, match="the picture has 1 channels"):
        encode(model, torch.zeros(1, 1, 8, 8), memory=0)


def test_strips_are_estimated_at_half_of_the_whole_or_less():
    whole, parts = (encode_memory(VQGANConfig(), 128, 128, way) for way in (False, True))
    assert parts <= whole / 2
