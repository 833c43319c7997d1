"""A first stage of two grids: one canvas of cells, each a top code and the four bottom codes under it."""

import pytest
import torch
import torch.nn.functional as F

from tessera.core.autoencoders.two_level import TwoLevel, TwoLevelConfig
from tessera.core.autoencoders.vqgan_file import codes_fingerprint, read_vqgan, save_vqgan
from tessera.core.canvas.atlas import codebook_atlas
from tessera.core.canvas.canvas import Canvas
from tessera.core.canvas.codec import decode_canvas, encode_canvas
from tessera.core.loading import load_vqgan

TINY = {
    "channels": 8, "channel_mult": (1, 2), "blocks_per_level": 1, "latent_channels": 8, "patch_size": 2,
    "grid_codes": 6, "grid_code_dim": 3, "norm_groups": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> TwoLevel:
    torch.manual_seed(0)
    model = TwoLevel(TwoLevelConfig(**TINY)).eval().requires_grad_(False)
    for codebook in model.codebooks:
        torch.nn.init.normal_(codebook.embedding.weight)
    return model


@pytest.fixture(scope="module")
def picture() -> torch.Tensor:
    return torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_a_cell_is_a_top_code_and_the_bottom_codes_under_it(model, picture):
    features = model.encoder(picture)  # [2, C, 8, 12]
    top = model.codebook_top(model.quant_conv_top(model.encoder_top(features)))
    seen = model.decoder_top(model.post_quant_conv_top(top.codes))
    bottom = model.codebook_bottom(model.quant_conv(torch.cat([seen, features], 1)))
    numbers = model.encode_indices(picture)
    assert numbers.shape == (2, 4, 6)
    assert len(top.indices.unique()) > 1
    assert len(bottom.indices.unique()) > 1
    for b, i, j in ((0, 0, 0), (0, 3, 5), (1, 2, 1)):
        under = bottom.indices[b, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].flatten().tolist()
        digits = [int(top.indices[b, i, j]), *under]
        assert int(numbers[b, i, j]) == sum(digit * 6**place for place, digit in enumerate(digits))
    both = torch.cat([F.interpolate(top.codes, scale_factor=2.0), bottom.codes], 1)
    torch.testing.assert_close(model.decode_indices(numbers), model.decoder(model.post_quant_conv(both)))
    torch.testing.assert_close(model(picture).image, model.decode_indices(numbers))
    assert torch.equal(model(picture).quantized.indices, numbers)


def test_a_canvas_of_any_size_comes_back_from_a_file(model, picture, tmp_path):
    save_vqgan(tmp_path / "two.safetensors", model)
    again = load_vqgan(tmp_path / "two.safetensors")
    assert isinstance(again, TwoLevel)
    assert codes_fingerprint(again) == codes_fingerprint(model)
    canvas = encode_canvas(again, picture[..., :45])
    image = decode_canvas(read_vqgan(tmp_path / "two.safetensors"), canvas)
    assert image.shape == (2, 3, 32, 45)
    torch.testing.assert_close(image, decode_canvas(model, canvas))
    pasted = Canvas.filled(canvas.indices.roll(1, 2))
    assert torch.equal(decode_canvas(model, pasted).isfinite(), torch.ones(2, 3, 32, 48, dtype=torch.bool))


def test_the_released_size_of_a_cell_fits_into_a_number():
    config = TwoLevelConfig()
    assert config.stride == 8
    assert config.codebook_size == 512**5 < 2**63


def test_what_goes_through_all_codes_says_that_it_can_not(model):
    large = TwoLevel(TwoLevelConfig(**TINY | {"grid_codes": 64}))
    with pytest.raises(ValueError, match="1073741824 codes, too many to go through"):
        codebook_atlas(large, "number")
    with pytest.raises(ValueError, match="holds 5 codes, 7776 ways"):
        _ = model.codebook.codes


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"grid_codes": 5000}, "choose 1 to 4096"),
        ({"codebook": "gumbel"}, "use nearest or ema"),
        ({"channels": 6}, "norm_groups"),
    ],
)
def test_impossible_shapes_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        TwoLevelConfig(**TINY | changes)
