"""CLIP: an image tower and a text tower into one space, where an image lies near the words that describe it.

    image --patches--> blocks --class token--> projection --+
                                                            +--> unit vectors, compared by their cosine
    text  --tokens---> causal blocks --end token--> projection --+

Radford et al. 2021 (arXiv:2103.00020), sections 2.3 and 2.4. The operations are those of the released ViT models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..priors.blocks import QuickGELU

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the pixels of every released model's training set
STD = (0.26862954, 0.26130258, 0.27577711)
MAX_LAYERS = 1000  # a file that asks for millions would never finish
MAX_LOGIT_SCALE = 100.0  # Radford et al., section 2.5


@dataclass(frozen=True, kw_only=True)
class CLIPConfig:
    """Everything that decides the shape of a CLIP. The defaults are ViT-B/32.

    Raises ValueError for values that no model can be built from.
    """

    image_size: int = 224
    patch_size: int = 32
    image_width: int = 768
    image_layers: int = 12
    image_heads: int = 12
    image_mlp: int = 3072
    text_width: int = 512
    text_layers: int = 12
    text_heads: int = 8
    text_mlp: int = 2048
    context: int = 77  # tokens, start and end included
    vocab_size: int = 49408
    embed_dim: int = 512
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"

    def __post_init__(self):
        for name, value in vars(self).items():
            if name != "activation" and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} is {value}; it must be a whole number of at least 1")
        if self.activation not in ("quick_gelu", "gelu"):
            raise ValueError(f"activation is {self.activation!r}; use quick_gelu or gelu")
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} does not divide by patch_size {self.patch_size}")
        for tower in ("image", "text"):
            width, heads, layers = (getattr(self, f"{tower}_{part}") for part in ("width", "heads", "layers"))
            if width % heads:
                raise ValueError(f"{tower}_width {width} does not divide by {tower}_heads {heads}; choose a multiple")
            if layers > MAX_LAYERS:
                raise ValueError(f"{tower}_layers is {layers}; choose at most {MAX_LAYERS}")


class Attention(nn.Module):
    """Multi-head self-attention; queries, keys and values from one product."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        batch, length, _ = x.shape
        # [B, T, 3C] -> [3, B, heads, T, d]
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.out(attended.transpose(1, 2).reshape(x.shape))  # [B, heads, T, d] -> [B, T, C]


class Block(nn.Module):
    """Attention, then an MLP, each on the normalized stream and added to it."""

    def __init__(self, width: int, heads: int, mlp: int, activation: str):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        act = QuickGELU() if activation == "quick_gelu" else nn.GELU()
        self.mlp = nn.Sequential(nn.Linear(width, mlp), act, nn.Linear(mlp, width))

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        x = x + self.attention(self.norm1(x), causal)
        return x + self.mlp(self.norm2(x))


class ImageTower(nn.Module):
    """[B, 3, S, S], normalized -> [B, E], not of length one."""

    def __init__(self, c: CLIPConfig):
        super().__init__()
        cells = (c.image_size // c.patch_size) ** 2
        self.patches = nn.Conv2d(3, c.image_width, c.patch_size, stride=c.patch_size, bias=False)
        self.class_token = nn.Parameter(torch.randn(c.image_width) * 0.02)
        self.positions = nn.Parameter(torch.randn(cells + 1, c.image_width) * 0.02)
        self.norm_in = nn.LayerNorm(c.image_width)
        self.blocks = nn.ModuleList(
            Block(c.image_width, c.image_heads, c.image_mlp, c.activation) for _ in range(c.image_layers)
        )
        self.norm_out = nn.LayerNorm(c.image_width)
        self.projection = nn.Linear(c.image_width, c.embed_dim, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        # the patches' convolution as a product, whose gradient takes CPUs a quarter of the time
        patches = F.pixel_unshuffle(images, self.patches.stride[0]).flatten(2).transpose(1, 2)  # [B, h*w, 3*p*p]
        x = F.linear(patches, self.patches.weight.flatten(1))  # [B, h*w, C]
        x = torch.cat([self.class_token.to(x.dtype).expand(len(x), 1, -1), x], 1)
        x = self.norm_in(x + self.positions)
        for block in self.blocks:
            x = block(x, causal=False)
        return self.projection(self.norm_out(x[:, 0]))


class TextTower(nn.Module):
    """Tokens [B, T] int64 and where each text ends [B] -> [B, E], not of length one."""

    def __init__(self, c: CLIPConfig):
        super().__init__()
        self.tokens = nn.Embedding(c.vocab_size, c.text_width)
        self.positions = nn.Parameter(torch.randn(c.context, c.text_width) * 0.01)
        self.blocks = nn.ModuleList(
            Block(c.text_width, c.text_heads, c.text_mlp, c.activation) for _ in range(c.text_layers)
        )
        self.norm_out = nn.LayerNorm(c.text_width)
        self.projection = nn.Linear(c.text_width, c.embed_dim, bias=False)

    def forward(self, tokens: Tensor, ends: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, causal=True)
        return self.projection(self.norm_out(x[torch.arange(len(x), device=x.device), ends]))


class CLIP(nn.Module):
    """Images and texts to unit vectors of one space.

    Tokens come from the `Tokenizer` that belongs to the weights; its end token is the last row of the vocabulary.
    """

    def __init__(self, config: CLIPConfig):
        super().__init__()
        self.config = config
        self.image = ImageTower(config)
        self.text = TextTower(config)
        self.logit_scale = nn.Parameter(torch.tensor(2.6593))  # ln(1 / 0.07)

    @torch.no_grad()
    def init_weights(self) -> None:
        """Draw weights to train from, as openai/CLIP does: by width, and smaller with depth where a layer adds to
        the stream."""
        nn.init.normal_(self.text.tokens.weight, std=0.02)
        nn.init.normal_(self.image.patches.weight, std=self.image.patches.weight[0].numel() ** -0.5)
        for tower in (self.image, self.text):
            width = tower.projection.in_features
            deep = width**-0.5 * (2 * len(tower.blocks)) ** -0.5
            for block in tower.blocks:
                layers = [m for m in block.modules() if isinstance(m, nn.Linear)]  # qkv, out, then those of the MLP
                for layer, std in zip(layers, (width**-0.5, deep, (2 * width) ** -0.5, deep), strict=True):
                    nn.init.normal_(layer.weight, std=std)
                    nn.init.zeros_(layer.bias)
            nn.init.normal_(tower.projection.weight, std=width**-0.5)
        for parameter in (self.image.class_token, self.image.positions):
            nn.init.normal_(parameter, std=self.config.image_width**-0.5)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.logit_scale.device

    @property
    def scale(self) -> Tensor:
        """What cosines are multiplied by before a softmax over texts or images."""
        return self.logit_scale.exp().clamp(max=MAX_LOGIT_SCALE)

    def encode_image(self, images: Tensor) -> Tensor:
        """Unit vectors of images.

        Args:
            images: [B, 3, S, S] in 0..1, S the config's `image_size`.
        Returns:
            [B, E], of length one.
        Raises:
            ValueError: another size or number of channels.
        """
        size = self.config.image_size
        if images.shape[1:] != (3, size, size):
            raise ValueError(f"the images are {list(images.shape)}; this CLIP takes [B, 3, {size}, {size}]")
        mean, std = (images.new_tensor(numbers).view(3, 1, 1) for numbers in (MEAN, STD))
        return F.normalize(self.image((images - mean) / std).float(), dim=1)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Unit vectors of texts.

        Args:
            tokens: [B, T] int64, T at most the config's `context`, each row with an end token.
        Returns:
            [B, E], of length one.
        """
        ends = (tokens == self.config.vocab_size - 1).int().argmax(1)  # the first one
        return F.normalize(self.text(tokens, ends).float(), dim=1)
