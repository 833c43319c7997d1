"""Codes to a picture of 1024x1024 pixels, against the decoder as the paper's equations read."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.autoencoders.blocks import AttentionBlock, Level, ResidualBlock
from ..core.autoencoders.strips.decoder import decode_in_strips
from ..core.autoencoders.vqgan import VQGAN, Decoder, VQGANConfig
from .report import Report
from .timing import in_new_process, peak_memory_of, seconds_of

ABOUT = """\
64x64 codes to a picture of 1024x1024 pixels, the released f16 shape (128 channels). *Ours* decodes whole layers,
*strips* the same strip by strip of rows with the memory that takes at most. The baseline is the decoder written
plainly below: eager operations one after the other and the whole attention matrix. Each runs in a new process; memory
is what decoding takes beyond the model itself."""

RELEASED = VQGANConfig()
QUICK = VQGANConfig(channels=32, channel_mult=(1, 2), blocks_per_level=1, attention_levels=(1,), latent_channels=32)


def plain_norm(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """Group norm, [B, C, h, w] -> same."""
    groups = x.reshape(len(x), norm.num_groups, -1)
    mean, variance = groups.mean(2, keepdim=True), groups.var(2, keepdim=True, unbiased=False)
    normed = ((groups - mean) / torch.sqrt(variance + norm.eps)).reshape(x.shape)
    return normed * norm.weight[:, None, None] + norm.bias[:, None, None]


def swish(x: Tensor) -> Tensor:
    """x times its sigmoid."""
    return x * torch.sigmoid(x)


def plain_residual(block: ResidualBlock, x: Tensor) -> Tensor:
    """Norm, swish, convolution, twice; added to the input."""
    residual = block.conv1(swish(plain_norm(block.norm1, x)))
    residual = block.conv2(swish(plain_norm(block.norm2, residual)))
    return (block.nin_shortcut(x) if hasattr(block, "nin_shortcut") else x) + residual


def plain_attention(block: AttentionBlock, x: Tensor) -> Tensor:
    """Softmax over the matrix of all pairs of positions."""
    normed = plain_norm(block.norm, x)
    q, k, v = (layer(normed).flatten(2) for layer in (block.q, block.k, block.v))  # [B, C, n]
    weights = torch.softmax(q.transpose(1, 2) @ k * x.shape[1] ** -0.5, 2)  # [B, n, n]
    return x + block.proj_out((v @ weights.transpose(1, 2)).reshape(x.shape))


def plain_level(level: Level, x: Tensor) -> Tensor:
    """Residual blocks with their attention, then twice the resolution."""
    for i, block in enumerate(level.block):
        x = plain_residual(block, x)
        if level.attn:
            x = plain_attention(level.attn[i], x)
    if hasattr(level, "upsample"):
        x = level.upsample.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    return x


def plain_decode(model: VQGAN, indices: Tensor) -> Tensor:
    """Indices [B, h, w] -> picture [B, C, H, W], as `VQGAN.decode_indices`."""
    decoder: Decoder = model.decoder
    x = decoder.conv_in(model.post_quant_conv(model.codebook.lookup(indices)))
    x = plain_residual(decoder.mid.block_1, x)
    x = plain_attention(decoder.mid.attn_1, x)
    x = plain_residual(decoder.mid.block_2, x)
    for level in reversed(decoder.up):
        x = plain_level(level, x)
    return decoder.conv_out(swish(plain_norm(decoder.norm_out, x)))


def strips_decode(model: VQGAN, indices: Tensor) -> Tensor:
    """As `VQGAN.decode_indices`, in bounded memory."""
    return decode_in_strips(model, model.codebook.lookup(indices))


DECODERS = {"ours": VQGAN.decode_indices, "strips": strips_decode, "plain": plain_decode}


@torch.inference_mode()
def run_once(name: str, config: VQGANConfig, side: int) -> tuple[float, int]:
    """Seconds and peak bytes of decoding side x side codes."""
    torch.manual_seed(0)
    model = VQGAN(config).eval()
    indices = torch.randint(config.codebook_size, (1, side, side))
    seconds = []
    memory = peak_memory_of(lambda: seconds.append(seconds_of(lambda: DECODERS[name](model, indices))))
    return seconds[0], max(1, memory)


def measure(quick: bool) -> Report:
    """Time and peak memory."""
    config, side = (QUICK, 8) if quick else (RELEASED, 64)
    found = {name: in_new_process(run_once, name, config, side) for name in DECODERS}
    seconds = {name: value[0] for name, value in found.items()}
    memory = {name: value[1] for name, value in found.items()}
    ratios = {
        f"plain / {name}, {what}": found["plain"] / found[name]
        for name in ("ours", "strips")
        for what, found in (("time", seconds), ("memory", memory))
    }
    return Report("decode", ABOUT, ratios, seconds, memory)
