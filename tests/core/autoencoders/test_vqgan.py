import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import grad

from tessera.core.autoencoders.blocks import AttentionBlock, Downsample, ResidualBlock, upsample_and_convolve
from tessera.core.autoencoders.vqgan import VQGAN, Decoder, Encoder, VQGANConfig

TINY = {
    "channels": 32, "channel_mult": (1, 1, 2), "blocks_per_level": 1, "attention_levels": (2,),
    "latent_channels": 8, "codebook_size": 16, "code_dim": 6,
}  # fmt: skip


def tiny(**changes) -> VQGAN:
    torch.manual_seed(0)
    return VQGAN(VQGANConfig(**{**TINY, **changes})).eval()


def picture(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def parameters(module: torch.nn.Module) -> float:
    """Millions of parameters."""
    return round(sum(p.numel() for p in module.parameters()) / 1e6, 2)


def on_meta(kind: type, **config) -> torch.nn.Module:
    with torch.device("meta"):
        return kind(VQGANConfig(**config))


@pytest.mark.parametrize(
    ("changes", "stride"),
    [
        ({"channel_mult": (1,), "attention_levels": ()}, 1),
        ({"channel_mult": (1, 2), "attention_levels": (0, 1)}, 2),
        ({}, 4),
        ({"channel_mult": (1, 1, 1, 2), "attention_levels": (3,)}, 8),
        ({"channel_mult": (1, 2), "attention_levels": (1,), "patch_size": 4}, 8),
        ({"image_channels": 1, "blocks_per_level": 2}, 4),
        ({"codebook": "gumbel"}, 4),
        ({"normalize_codes": True}, 4),
    ],
)
def test_shapes_on_the_way_through(changes, stride):
    model = tiny(**changes).double()
    assert model.config.stride == stride
    x = picture(2, model.config.image_channels, 4 * stride, 6 * stride).double()
    made, quantized, latents, _ = model(x)
    assert made.shape == x.shape
    assert quantized.codes.shape == (2, 6, 4, 6)
    assert quantized.indices.shape == (2, 4, 6)
    assert latents.shape == (2, 8 if model.config.codebook == "gumbel" else 6, 4, 6)
    assert torch.equal(model.encode_indices(x), quantized.indices)
    torch.testing.assert_close(model.decode_indices(quantized.indices), made)


def test_parts_of_the_way_equal_the_whole():
    model, x = tiny(), picture(1, 3, 16, 24)
    latents = model.quant_conv(model.encoder(x))
    codes = model.codebook(latents).codes
    made = model.decoder(model.post_quant_conv(codes))
    whole = model(x)
    torch.testing.assert_close(whole.latents, latents)
    torch.testing.assert_close(whole.image, made)
    assert made.abs().max() > 0


def test_pictures_of_a_batch_do_not_touch_each_other():
    model, x = tiny(), picture(3, 3, 16, 16)
    torch.testing.assert_close(model.encode(x)[1:2], model.encode(x[1:2]), atol=1e-5, rtol=1e-5)


def test_folding_pixels_is_the_same_as_convolving_the_unshuffled_picture():
    model, x = tiny(channel_mult=(1,), attention_levels=(), patch_size=2), picture(1, 3, 8, 8)
    unfolded = tiny(channel_mult=(1,), attention_levels=(), image_channels=12)
    unfolded.load_state_dict(model.state_dict())
    corners = [x[:, c, i::2, j::2] for c in range(3) for i in range(2) for j in range(2)]
    latents = unfolded.encode(torch.stack(corners, 1))
    torch.testing.assert_close(model.encode(x), latents)
    made, apart = model.decode(latents), unfolded.decode(latents)
    for c in range(3):
        for place, (i, j) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
            torch.testing.assert_close(made[:, c, i::2, j::2], apart[:, 4 * c + place])


def test_downsampling_pads_right_and_bottom_only():
    down = Downsample(1)
    torch.nn.init.ones_(down.conv.weight)
    torch.nn.init.zeros_(down.conv.bias)
    x = torch.arange(1.0, 17).view(1, 1, 4, 4)
    # sums of the 3x3 fields at (0, 0), (0, 2), (2, 0), (2, 2), zeros beyond the right and the lower border
    expected = torch.tensor([[1 + 2 + 3 + 5 + 6 + 7 + 9 + 10 + 11, 3 + 4 + 7 + 8 + 11 + 12],
                             [9 + 10 + 11 + 13 + 14 + 15, 11 + 12 + 15 + 16]])  # fmt: skip
    torch.testing.assert_close(down(x)[0, 0], expected.float())


@pytest.mark.parametrize("halo", [(0, 0), (1, 0), (1, 1)])
def test_upsampling_is_nearest_neighbor_then_a_convolution_and_so_is_its_gradient(halo):
    torch.manual_seed(0)
    conv, x = nn.Conv2d(6, 6, 3, padding=1), torch.randn(2, 6, 7, 5, requires_grad=True)
    wanted = conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    rows, columns = (2 * n for n in halo)
    wanted = wanted[:, :, rows : wanted.shape[2] - rows, columns : wanted.shape[3] - columns]
    made = upsample_and_convolve(conv, x, halo)
    torch.testing.assert_close(made, wanted)
    leaves, seed = (x, conv.weight, conv.bias), torch.randn_like(wanted)
    for ours, theirs in zip(grad(made, leaves, seed), grad(wanted, leaves, seed), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)


def test_attention_equals_the_explicit_softmax():
    torch.manual_seed(0)
    block, x = AttentionBlock(32), torch.randn(2, 32, 3, 5)
    normed = F.group_norm(x, 32, block.norm.weight, block.norm.bias, 1e-6)
    q, k, v = (torch.einsum("oc,bchw->bohw", layer.weight[:, :, 0, 0], normed).flatten(2) + layer.bias[:, None]
               for layer in (block.q, block.k, block.v))  # fmt: skip
    weights = (q.transpose(1, 2) @ k / 32**0.5).softmax(2)  # [B, query, key]
    attended = torch.einsum("bck,bqk->bcq", v, weights).view(2, 32, 3, 5)
    torch.testing.assert_close(block(x), x + block.proj_out(attended), atol=1e-5, rtol=1e-5)


def test_residual_block_has_a_shortcut_only_where_channels_change():
    assert not hasattr(ResidualBlock(32, 32), "nin_shortcut")
    torch.manual_seed(0)
    block, x = ResidualBlock(32, 64), torch.randn(1, 32, 4, 4)
    torch.nn.init.zeros_(block.conv2.weight)
    torch.nn.init.zeros_(block.conv2.bias)
    torch.testing.assert_close(block(x), block.nin_shortcut(x))


def test_decoder_levels_are_numbered_from_the_full_resolution():
    decoder, seen = Decoder(VQGANConfig(**TINY)), []
    for level in decoder.up:
        level.block[0].register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1:]))
    decoder(torch.randn(1, 8, 3, 3))
    assert seen == [(64, 3, 3), (32, 6, 6), (32, 12, 12)]  # in the order of running: up.2, up.1, up.0
    assert not hasattr(decoder.up[0], "upsample")
    assert hasattr(decoder.up[1], "upsample")
    assert [len(level.block) for level in decoder.up] == [2, 2, 2]  # one more than in the encoder
    assert [len(level.attn) for level in decoder.up] == [0, 0, 2]


def test_encoder_halves_after_every_level_but_the_last():
    encoder = Encoder(VQGANConfig(**TINY))
    assert [hasattr(level, "downsample") for level in encoder.down] == [True, True, False]
    assert [len(level.attn) for level in encoder.down] == [0, 0, 1]


def test_tensor_names_are_those_of_the_released_models():
    names = set(tiny().state_dict())
    for name in [
        "encoder.conv_in.weight", "encoder.down.0.block.0.norm1.weight", "encoder.down.0.downsample.conv.bias",
        "encoder.down.2.block.0.nin_shortcut.weight", "encoder.down.2.attn.0.proj_out.weight",
        "encoder.mid.block_1.conv2.weight", "encoder.mid.attn_1.q.weight", "encoder.norm_out.bias",
        "decoder.up.0.block.1.conv1.weight", "decoder.up.1.upsample.conv.weight", "decoder.conv_out.bias",
        "quant_conv.weight", "post_quant_conv.bias", "codebook.embedding.weight",
    ]:  # fmt: skip
        assert name in names


def test_released_f16_shape_has_the_released_number_of_parameters():
    assert parameters(on_meta(Encoder)) == 29.30
    assert parameters(on_meta(Decoder)) == 42.45


def test_released_gumbel_f8_shape_has_the_released_number_of_parameters():
    shape = {"channel_mult": (1, 1, 2, 4), "attention_levels": (3,), "codebook": "gumbel", "codebook_size": 8192}
    assert parameters(on_meta(Encoder, **shape)) == 26.35
    assert parameters(on_meta(Decoder, **shape)) == 38.32


def test_wrong_number_of_channels_is_refused():
    with pytest.raises(ValueError, match="has 1 channels, this VQGAN takes 3"):
        tiny().encode(picture(1, 1, 16, 16))


@pytest.mark.parametrize(("height", "width"), [(15, 16), (16, 18), (0, 16), (2, 2)])
def test_sides_off_the_stride_are_refused_with_the_stride(height, width):
    with pytest.raises(ValueError, match=f"{width}x{height} pixels.*multiples of 4"):
        tiny().encode(picture(1, 3, height, width))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 48}, "multiples of 32"),
        ({"channel_mult": ()}, "channel_mult"),
        ({"attention_levels": (3,)}, "attention_levels"),
        ({"codebook": "best"}, "'best' is unknown"),
        ({"codebook_size": 0}, "codebook_size is 0"),
        ({"patch_size": 0}, "patch_size is 0"),
        ({"latent_channels": 0}, "latent_channels is 0"),
        ({"channels": 0}, "channels"),
        ({"channels": -32}, "channels"),
        ({"channel_mult": (1, 1, 0)}, "channel_mult"),
    ],
)
def test_config_that_no_model_can_have_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        VQGANConfig(**{**TINY, **changes})


def test_lists_from_a_file_are_as_good_as_tuples():
    assert VQGANConfig(**{**TINY, "channel_mult": [1, 1, 2], "attention_levels": [2]}) == VQGANConfig(**TINY)


def test_order_of_a_picture_in_memory_changes_nothing():
    model, image = tiny(), picture(1, 3, 32, 24)
    latents = model.encode(image)
    codes = model.quantize(latents).codes
    assert torch.equal(model.encode(image.contiguous(memory_format=torch.channels_last)), latents)
    assert torch.equal(model.decode(codes.contiguous(memory_format=torch.channels_last)), model.decode(codes))
