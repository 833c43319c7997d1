"""Guided synthesis, against the loop of the VQGAN+CLIP notebook written plainly."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.autoencoders.blocks import AttentionBlock, Level, ResidualBlock
from ..core.autoencoders.vqgan import VQGAN, VQGANConfig
from ..core.clip.cutouts import CutoutSettings, draw_views, take_views
from ..core.clip.encoder import CLIP, CLIPConfig
from ..core.clip.guidance import GuidanceSettings, GuidanceState, guide_steps
from ..core.clip.model import ClipModel
from ..core.clip.prompts import Prompt
from ..core.clip.tokenizer import Tokenizer
from .report import Report
from .timing import in_new_process, peak_memory_of, seconds_of

ABOUT = """\
Steps of guided synthesis at 256x256 pixels, the released f16 VQGAN (128 channels, 1024 codes) and ViT-B/32 with its
text tower cut to one layer, 8, 16 and 64 views a step. The baseline is the loop of the VQGAN+CLIP notebook written
plainly below, with the same views: the networks' operations as they were published, and one backward pass through all
of it. Each runs in a new process; memory is what the steps take beyond the models themselves."""

RELEASED = VQGANConfig()
VIT_B_32 = CLIPConfig(text_layers=1)
QUICK = VQGANConfig(channels=32, channel_mult=(1, 2), blocks_per_level=1, attention_levels=(1,), latent_channels=32)
QUICK_CLIP = CLIPConfig(
    image_size=32, patch_size=16, image_width=64, image_layers=1, image_heads=1, image_mlp=64, text_width=64,
    text_layers=1, text_heads=1, text_mlp=64, embed_dim=32,
)  # fmt: skip
WORDS = Prompt(text="a cat")


def random_models(vqgan: VQGANConfig, clip: CLIPConfig) -> tuple[VQGAN, ClipModel]:
    """A VQGAN and a CLIP with random weights, for use."""
    torch.manual_seed(0)
    tokenizer = Tokenizer([], context=clip.context)
    clip = CLIP(CLIPConfig(**{**vars(clip), "vocab_size": tokenizer.vocab_size}))
    clip.init_weights()
    models = VQGAN(vqgan), clip
    torch.nn.init.normal_(models[0].codebook.embedding.weight)
    for model in models:
        model.eval().requires_grad_(False)
    return models[0], ClipModel(clip, tokenizer)


def swish(x: Tensor) -> Tensor:
    """x times its sigmoid."""
    return x * torch.sigmoid(x)


def plain_residual(block: ResidualBlock, x: Tensor) -> Tensor:
    """Norm, swish, convolution, twice; added to the input."""
    residual = block.conv1(swish(block.norm1(x)))
    residual = block.conv2(swish(block.norm2(residual)))
    return (block.nin_shortcut(x) if hasattr(block, "nin_shortcut") else x) + residual


def plain_attention(block: AttentionBlock, x: Tensor) -> Tensor:
    """Softmax over the matrix of all pairs of positions."""
    normed = block.norm(x)
    q, k, v = (layer(normed).flatten(2) for layer in (block.q, block.k, block.v))  # [B, C, n]
    weights = torch.softmax(torch.bmm(q.transpose(1, 2), k) * x.shape[1] ** -0.5, 2)  # [B, n, n]
    return x + block.proj_out(torch.bmm(v, weights.transpose(1, 2)).reshape(x.shape))


def plain_level(level: Level, x: Tensor) -> Tensor:
    """Residual blocks with their attention, then twice the resolution."""
    for i, block in enumerate(level.block):
        x = plain_residual(block, x)
        if level.attn:
            x = plain_attention(level.attn[i], x)
    if hasattr(level, "upsample"):
        x = level.upsample.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    return x


def plain_decode(model: VQGAN, codes: Tensor) -> Tensor:
    """Codes [1, D, h, w] -> picture [1, 3, H, W], as `VQGAN.decode`."""
    decoder = model.decoder
    x = decoder.conv_in(model.post_quant_conv(codes))
    x = plain_residual(decoder.mid.block_1, x)
    if hasattr(decoder.mid, "attn_1"):
        x = plain_attention(decoder.mid.attn_1, x)
    x = plain_residual(decoder.mid.block_2, x)
    for level in reversed(decoder.up):
        x = plain_level(level, x)
    return F.pixel_shuffle(decoder.conv_out(swish(decoder.norm_out(x))), decoder.patch_size)


def plain_encode(clip: CLIP, images: Tensor) -> Tensor:
    """Views [n, 3, S, S] -> unit vectors, every product and the matrix of attention by itself."""
    tower = clip.image
    mean, std = (images.new_tensor(n).view(3, 1, 1) for n in ((0.48145466, 0.4578275, 0.40821073),
                                                             (0.26862954, 0.26130258, 0.27577711)))  # fmt: skip
    x = tower.patches((images - mean) / std).flatten(2).permute(0, 2, 1)
    x = torch.cat([tower.class_token + torch.zeros(len(x), 1, x.shape[2]), x], 1) + tower.positions
    x = tower.norm_in(x)
    for block in tower.blocks:
        q, k, v = block.attention.qkv(block.norm1(x)).chunk(3, 2)
        q, k, v = (part.unflatten(2, (block.attention.heads, -1)).transpose(1, 2) for part in (q, k, v))
        weights = torch.softmax(q @ k.transpose(2, 3) * q.shape[3] ** -0.5, 3)
        x = x + block.attention.out((weights @ v).transpose(1, 2).flatten(2))
        x = x + block.mlp(block.norm2(x))
    found = tower.projection(tower.norm_out(x[:, 0]))
    return found / found.norm(dim=1, keepdim=True)


class PlainQuantize(torch.autograd.Function):
    """The nearest code by the matrix of all distances; the gradient is handed through."""

    @staticmethod
    def forward(ctx, z, codes):
        rows = z.movedim(1, 3)
        distances = rows.square().sum(3, keepdim=True) + codes.square().sum(1) - 2 * rows @ codes.t()
        return F.one_hot(distances.argmin(3), len(codes)).to(codes) @ codes

    @staticmethod
    def backward(ctx, gradient):
        return gradient.movedim(3, 1), None


class PlainClamp(torch.autograd.Function):
    """Clamp to 0..1; the gradient passes where it leads back inside."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(0, 1)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * (gradient * (x - x.clamp(0, 1)) >= 0)


def plain_losses(vqgan: VQGAN, model: ClipModel, indices: Tensor, settings: GuidanceSettings, seed: int) -> list[float]:
    """The loss of each step, as the notebook runs it."""
    codes, size = vqgan.codebook.codes, model.clip.config.image_size
    z = vqgan.codebook.lookup(indices).clone().requires_grad_()
    low, high = codes.min(0).values[None, :, None, None], codes.max(0).values[None, :, None, None]
    optimizer = torch.optim.Adam([z], lr=settings.learning_rate * float(codes.std()))
    target = model.clip.encode_text(model.tokenizer([WORDS.text]))
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for _ in range(settings.steps):
        image = PlainClamp.apply((plain_decode(vqgan, PlainQuantize.apply(z, codes).movedim(3, 1)) + 1) / 2)
        views = draw_views(settings.cutouts, *image.shape[2:], size, generator)
        seen = plain_encode(model.clip, take_views(image, views, size))
        loss = (seen - target).norm(dim=1).div(2).arcsin().pow(2).mul(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            z.copy_(z.maximum(low).minimum(high))
        losses.append(loss.item())
    return losses


def our_losses(vqgan: VQGAN, model: ClipModel, indices: Tensor, settings: GuidanceSettings, seed: int) -> list[float]:
    """The loss of each step of `guide_steps`."""
    state = GuidanceState.begin(vqgan, indices, seed)
    return [event.loss for event in guide_steps(vqgan, [model], [WORDS], state, settings)]


LOOPS = {"ours": our_losses, "plain": plain_losses}


def run_once(name: str, vqgan: VQGANConfig, clip: CLIPConfig, side: int, count: int, steps: int) -> tuple[float, int]:
    """Seconds a step and peak bytes, without the first step."""
    models = random_models(vqgan, clip)
    indices = torch.randint(vqgan.codebook_size, (1, side, side), generator=torch.Generator().manual_seed(0))
    cutouts = CutoutSettings(count=count)
    LOOPS[name](*models, indices, GuidanceSettings(steps=1, cutouts=cutouts), 0)
    settings, seconds = GuidanceSettings(steps=steps, cutouts=cutouts), []
    memory = peak_memory_of(lambda: seconds.append(seconds_of(lambda: LOOPS[name](*models, indices, settings, 0))))
    return seconds[0] / steps, max(1, memory)


def measure(quick: bool) -> Report:
    """Time and peak memory for few and for many views."""
    vqgan, clip, side, steps = (QUICK, QUICK_CLIP, 8, 1) if quick else (RELEASED, VIT_B_32, 16, 2)
    counts = (2, 4) if quick else (8, 16, 64)
    found = {
        f"{name}, {n}": in_new_process(run_once, name, vqgan, clip, side, n, steps) for n in counts for name in LOOPS
    }
    seconds = {name: value[0] for name, value in found.items()}
    memory = {name: value[1] for name, value in found.items()}
    ratios = {f"plain / ours, {n} views, time": seconds[f"plain, {n}"] / seconds[f"ours, {n}"] for n in counts}
    few, many = counts[0], counts[-1]
    ratios |= {
        f"{name}, {many} views / {few}, memory": memory[f"{name}, {many}"] / memory[f"{name}, {few}"] for name in LOOPS
    }
    return Report("guide", ABOUT, ratios, seconds, memory)
