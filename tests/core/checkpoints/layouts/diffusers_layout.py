"""Names and shapes of diffusers' VQModel."""

from tessera.tests.core.checkpoints.layouts.original_layout import Shapes, convolution, linear, norm


def resnet(name: str, into: int, out: int) -> Shapes:
    shapes = norm(f"{name}.norm1", into) | convolution(f"{name}.conv1", out, into, 3)
    shapes |= norm(f"{name}.norm2", out) | convolution(f"{name}.conv2", out, out, 3)
    return shapes if into == out else shapes | convolution(f"{name}.conv_shortcut", out, into, 1)


def attention(name: str, width: int) -> Shapes:
    shapes = norm(f"{name}.group_norm", width)
    for part in ("to_q", "to_k", "to_v", "to_out.0"):
        shapes |= linear(f"{name}.{part}", width, width)
    return shapes


def middle(name: str, width: int) -> Shapes:
    shapes = resnet(f"{name}.mid_block.resnets.0", width, width) | resnet(f"{name}.mid_block.resnets.1", width, width)
    return shapes | attention(f"{name}.mid_block.attentions.0", width)


def diffusers_shapes(
    *,
    widths: tuple[int, ...] = (32, 64, 128),
    attentive: tuple[int, ...] = (),
    blocks: int = 2,
    codes: int = 8192,
    latent: int = 3,
) -> Shapes:
    """A VQModel with `block_out_channels` widths, attention at the levels `attentive`, codes as wide as latents."""
    levels = len(widths)
    shapes = convolution("encoder.conv_in", widths[0], 3, 3)
    previous = widths[0]
    for i, width in enumerate(widths):
        name = f"encoder.down_blocks.{i}"
        for j in range(blocks):
            shapes |= resnet(f"{name}.resnets.{j}", previous if j == 0 else width, width)
            shapes |= attention(f"{name}.attentions.{j}", width) if i in attentive else {}
        if i < levels - 1:
            shapes |= convolution(f"{name}.downsamplers.0.conv", width, width, 3)
        previous = width
    shapes |= middle("encoder", previous) | norm("encoder.conv_norm_out", previous)
    shapes |= convolution("encoder.conv_out", latent, previous, 3)
    shapes |= convolution("quant_conv", latent, latent, 1) | {"quantize.embedding.weight": (codes, latent)}
    shapes |= convolution("post_quant_conv", latent, latent, 1)
    shapes |= convolution("decoder.conv_in", previous, latent, 3) | middle("decoder", previous)
    for i, width in enumerate(reversed(widths)):
        name = f"decoder.up_blocks.{i}"
        for j in range(blocks + 1):
            shapes |= resnet(f"{name}.resnets.{j}", previous if j == 0 else width, width)
            shapes |= attention(f"{name}.attentions.{j}", width) if levels - 1 - i in attentive else {}
        if i < levels - 1:
            shapes |= convolution(f"{name}.upsamplers.0.conv", width, width, 3)
        previous = width
    return shapes | norm("decoder.conv_norm_out", previous) | convolution("decoder.conv_out", 3, previous, 3)


def older_names(shapes_or_state: dict) -> dict:
    """The same under the names of diffusers before 0.17, as the published files have them."""
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    renamed = {}
    for name, value in shapes_or_state.items():
        for new, older in old.items():
            name = name.replace(new, older)
        renamed[name] = value
    return renamed
