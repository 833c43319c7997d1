"""A Llama-style prior over the cells of a window, as LlamaGen trains them (arXiv 2406.06525).

    prefix, cells --embedding--> blocks (RMSNorm, causal attention with 2-D rotary positions, SwiGLU) --> logits

No biases, no learned positions: a query and a key are turned by the row and column of their cell, so only the distance
between two cells counts. Tensor names are those of the released files. A prefix token is an embedding row, or a text
feature through a small MLP; what controls a picture cell by cell (ControlAR, arXiv 2410.02705) is added to the stream
before some of the blocks, at the position that predicts the cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..prefix import Prefix
from .packed_module import pack_module
from .rotary import grid_rotations, rotate

MAX_LAYERS = 1000  # a file that asks for millions would never finish


@dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """Everything that decides the shape of a prior; the defaults are LlamaGen-B. ValueError for impossible values.

    prefix_rows: rows of the prefix's own embedding, tokens K, K + 1, ...; the last is the unconditional one.
    feature_width: of text features, for a prefix of vectors; 0 where the prefix is tokens.
    prefix_length: tokens; of text features the most there may be.
    prefix_rotation: what rotary positions do to the prefix's queries and keys. LlamaGen multiplies them by zero, so that
        a cell weighs all prefix tokens alike; the identity lets it choose among them.
    control_layers: the blocks before which control is added.
    rope_base: base of the rotary frequencies.
    """

    layers: int = 12
    width: int = 768
    heads: int = 12
    hidden: int = 2048
    codebook_size: int = 16384
    prefix_rows: int = 1001
    feature_width: int = 0
    prefix_length: int = 1
    prefix_rotation: Literal["zero", "identity"] = "zero"
    window: int = 16
    control_layers: tuple[int, ...] = ()
    rope_base: float = 10000.0

    def __post_init__(self):
        object.__setattr__(self, "control_layers", tuple(self.control_layers))
        for name in ("layers", "width", "heads", "hidden", "codebook_size", "prefix_length", "window"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.layers > MAX_LAYERS:
            raise ValueError(f"layers is {self.layers}; choose at most {MAX_LAYERS}")
        if self.width % (4 * self.heads):
            raise ValueError(f"width {self.width} does not divide by 4 x {self.heads} heads; choose a multiple")
        if (self.prefix_rows > 0) == (self.feature_width > 0):
            raise ValueError(
                f"prefix_rows is {self.prefix_rows} and feature_width {self.feature_width}; a prefix is one of them, "
                "the other is 0"
            )
        if self.prefix_rotation not in ("zero", "identity"):
            raise ValueError(f"prefix_rotation {self.prefix_rotation!r} is unknown; use zero or identity")
        if any(layer not in range(self.layers) for layer in self.control_layers):
            raise ValueError(f"control_layers {self.control_layers} name a block that does not exist")

    @property
    def vocab_size(self) -> int:
        """Codes, then the prefix's own tokens."""
        return self.codebook_size + self.prefix_rows

    @property
    def context(self) -> int:
        """Longest sequence: the prefix and all cells of a window."""
        return self.prefix_length + self.window**2


class RMSNorm(nn.Module):
    """Each vector divided by its root mean square, then scaled (arXiv 1910.07467)."""

    def __init__(self, width: int, eps: float = 1e-5):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).type_as(x) * self.weight


class Attention(nn.Module):
    """Multi-head self-attention whose queries and keys are turned by their cell's place."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.wqkv = nn.Linear(width, 3 * width, bias=False)
        self.wo = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, rotation: Tensor, mask: Tensor | None, past: Tensor | None, start: int) -> Tensor:
        """[B, T, C] -> [B, T, C].

        Args:
            rotation: [T, d/2] complex, of these positions.
            mask: [T, start + T], or with leading dimensions, bool: True where a token may look; None is causal.
            past: this layer's keys and values, [2, B, heads, room, d]; those of x are written there from `start` on.
        """
        batch, length, _ = x.shape
        # [B, T, 3C] -> [3, B, heads, T, d]
        q, k, v = self.wqkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, rotation), rotate(k, rotation)
        if past is not None:
            end = start + length
            past[0, :, :, start:end], past[1, :, :, start:end] = k, v
            k, v = past[:, :, :, :end]
        attended = F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None and length > 1)
        return self.wo(attended.transpose(1, 2).reshape(x.shape))  # [B, heads, T, d] -> [B, T, C]


class FeedForward(nn.Module):
    """SwiGLU (arXiv 2002.05202)."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.w1 = nn.Linear(width, hidden, bias=False)
        self.w3 = nn.Linear(width, hidden, bias=False)
        self.w2 = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    """Attention, then SwiGLU, each on the normalized stream and added to it."""

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.attention_norm = RMSNorm(config.width)
        self.attention = Attention(config.width, config.heads)
        self.ffn_norm = RMSNorm(config.width)
        self.feed_forward = FeedForward(config.width, config.hidden)

    def forward(self, x: Tensor, rotation: Tensor, mask: Tensor | None, past: Tensor | None, start: int) -> Tensor:
        """[B, T, C] -> [B, T, C]; arguments as `Attention.forward`."""
        x = x + self.attention(self.attention_norm(x), rotation, mask, past, start)
        return x + self.feed_forward(self.ffn_norm(x))


class MLP(nn.Module):
    """Two linear layers without biases around a GELU, in its tanh approximation."""

    def __init__(self, width_in: int, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width_in, width, bias=False)
        self.fc2 = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class TokenPrefix(nn.Module):
    """The prefix's own tokens as rows of a table."""

    def __init__(self, rows: int, width: int):
        super().__init__()
        self.embedding_table = nn.Embedding(rows, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, P] int64 in 0..rows-1 -> [B, P, C]"""
        return self.embedding_table(tokens)


class FeaturePrefix(nn.Module):
    """Text features as prefix; `uncond_embedding` is what stands for no text."""

    def __init__(self, length: int, feature_width: int, width: int):
        super().__init__()
        self.cap_proj = MLP(feature_width, width)
        self.register_buffer("uncond_embedding", torch.randn(length, feature_width) / feature_width**0.5)

    def forward(self, features: Tensor) -> Tensor:
        """[B, P, F] -> [B, P, C]"""
        return self.cap_proj(features)


@dataclass
class LlamaCache:
    """Keys and values of windows that stand still, and what their cells must know of the prefix."""

    past: Tensor  # [layers, 2, B, heads, room, d]
    prefix: Prefix  # of B rows
    prefix_length: int
    cells: int = 0  # evaluated so far

    def rollback(self, cells: int) -> None:
        """Forget all but the first `cells` cells."""
        self.cells = cells


class Llama(nn.Module):
    """The prior. A prefix is tokens [B, P] int64 from K on, or features [B, P, F] with a mask where their lengths
    differ; what is added per cell is [B, window**2, N, C], for the N `control_layers`."""

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.config = config
        if config.prefix_rows:
            self.cls_embedding = TokenPrefix(config.prefix_rows, config.width)
        else:
            self.cls_embedding = FeaturePrefix(config.prefix_length, config.feature_width, config.width)
        self.tok_embeddings = nn.Embedding(config.codebook_size, config.width)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width)
        self.output = nn.Linear(config.width, config.codebook_size, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)

    @property
    def window(self) -> int:
        """Cells a side."""
        return self.config.window

    @property
    def codebook_size(self) -> int:
        """K, the codes it predicts."""
        return self.config.codebook_size

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.norm.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.norm.weight.dtype

    def forward(self, prefix: Prefix | Tensor, cells: Tensor) -> Tensor:
        """Logits of every cell from the prefix and the cells before it.

        Args:
            prefix: of B rows or one; its tokens alone where nothing else belongs to it.
            cells: [B, n] int64 in 0..K-1, row by row; the last one is predicted but not looked at.
        Returns:
            [B, n, K].
        """
        prefix = prefix if isinstance(prefix, Prefix) else Prefix(prefix)
        return self._first(prefix.expand(len(cells)), cells[:, :-1], cells.shape[1], None)

    def check_prefix(self, prefix: Prefix) -> None:
        """Raise ValueError for a prefix of another kind, length, vocabulary or width than this prior takes."""
        c, tokens = self.config, prefix.tokens
        if tokens.is_floating_point() != (c.feature_width > 0):
            raise ValueError(f"the condition gives {'text' if tokens.is_floating_point() else 'tokens'}, the prior takes "
                             f"{'text' if c.feature_width else 'tokens'}; use the condition that it was trained with")
        if c.feature_width:
            if tokens.shape[2] != c.feature_width or not 1 <= tokens.shape[1] <= c.prefix_length:
                raise ValueError(
                    f"the text has {tokens.shape[1]} features of width {tokens.shape[2]}, the prior takes 1 to "
                    f"{c.prefix_length} of width {c.feature_width}; use the text encoder that it was trained with"
                )
        elif tokens.shape[1] != c.prefix_length:
            raise ValueError(
                f"the condition gives prefixes of {tokens.shape[1]} tokens, the prior takes {c.prefix_length}; "
                "use the condition that it was trained with"
            )
        elif len(outside := tokens[(tokens < c.codebook_size) | (tokens >= c.vocab_size)]):
            raise ValueError(
                f"the condition holds token {int(outside[0])}, the prior knows {c.codebook_size} to {c.vocab_size - 1}; "
                "use the condition that it was trained with"
            )
        wanted = (c.window**2, len(c.control_layers), c.width)
        if prefix.per_cell is not None and prefix.per_cell.shape[1:] != wanted:
            raise ValueError(
                f"control has shape {tuple(prefix.per_cell.shape[1:])}, the prior takes {wanted}; "
                "use the control encoder that it was trained with"
            )

    def cache_bytes(self, cells: int) -> int:
        """Bytes of one sequence's cache: keys and values of its prefix and `cells` cells."""
        tokens = self.config.prefix_length + cells
        return 2 * self.config.layers * self.config.width * tokens * self.dtype.itemsize

    def work_bytes(self, sequences: int) -> int:
        """Bytes at most that `start` takes for whole windows, beyond weights and caches."""
        c = self.config
        each = 8 * c.width + 3 * c.hidden  # numbers a token in the widest block, attention's copies included
        return sequences * (c.context * each * self.dtype.itemsize + 8 * c.codebook_size)

    @torch.no_grad()
    def start(
        self, prefix: Prefix, cells: Tensor, last: int = 1, room: int = 0
    ) -> tuple[Tensor, LlamaCache | None]:
        """Evaluate a window's prefix and its first cells [B, n]: logits [B, last, K] of the last predictions, and what
        to go on with, if there is `room` for cells; see `base.Prior`."""
        prefix = repeat_rows(prefix, len(cells))
        cache = self._new_cache(prefix, room) if room else None
        return self._first(prefix, cells, last, cache), cache

    def decoder(self) -> LlamaDecoder:
        """What evaluates more cells, with the weights as they are now."""
        return LlamaDecoder(self)

    def _new_cache(self, prefix: Prefix, room: int) -> LlamaCache:
        """An empty cache for the prefix's rows and `room` cells."""
        c, length = self.config, prefix.tokens.shape[1]
        shape = (c.layers, 2, len(prefix), c.heads, length + room, c.width // c.heads)
        return LlamaCache(self.norm.weight.new_empty(shape), prefix, length)

    def _first(self, prefix: Prefix, cells: Tensor, last: int, cache: LlamaCache | None) -> Tensor:
        """Prefix and cells [B, n] from the beginning: the last predictions' logits [B, last, K]."""
        tokens = prefix.tokens
        tokens = tokens.to(self.dtype) if self.config.feature_width else tokens - self.config.codebook_size
        x = torch.cat([self.cls_embedding(tokens), self.tok_embeddings(cells)], 1)
        logits = self.evaluate(x, prefix, None if cache is None else cache.past, 0, last)
        if cache is not None:
            cache.cells = cells.shape[1]
        return logits

    def run(
        self,
        x: Tensor,
        rotation: Tensor,
        mask: Tensor | None,
        past: Tensor | None,
        start: int,
        last: int = 0,
        control: Tensor | None = None,
    ) -> Tensor:
        """Embedded tokens [B, T, C] through all blocks: logits [B, T or last, K].

        Args:
            rotation, mask, start: as `Attention.forward`; `past` is [layers, 2, B, heads, room, d].
            control: [B, T, N, C], added before the N `control_layers`.
        """
        for number, block in enumerate(self.layers):
            if control is not None and number in self.config.control_layers:
                x = x + control[:, :, self.config.control_layers.index(number)].to(x)
            x = block(x, rotation, mask, None if past is None else past[number], start)
        return self.output(self.norm(x[:, -last:]))

    def evaluate(self, x: Tensor, prefix: Prefix, past: Tensor | None, start: int, last: int = 0) -> Tensor:
        """`run` for tokens [B, T, C] of a sequence with this prefix, at positions from `start` on."""
        end, length = start + x.shape[1], prefix.tokens.shape[1]
        control = control_of(prefix.per_cell, start - length + 1, end - length + 1)
        mask = attention_mask(start, end, prefix.mask, x.device)
        return self.run(x, self._rotations(length, start, end), mask, past, start, last, control)

    def _rotations(self, prefix_length: int, start: int, end: int) -> Tensor:
        """Rotary factors of the positions from `start` to before `end`, [end - start, d/2] complex."""
        c = self.config
        cells = grid_rotations(c.window, c.width // c.heads, c.rope_base, self.device)
        if start >= prefix_length:
            return cells[start - prefix_length : end - prefix_length]
        prefix = cells.new_full((prefix_length, cells.shape[1]), 0 if c.prefix_rotation == "zero" else 1)
        return torch.cat([prefix, cells[: end - prefix_length]])[start:]


class LlamaDecoder:
    """Evaluates more cells of windows that stand still; holds the weights as a processor reads them fastest."""

    def __init__(self, prior: Llama):
        self.prior = prior
        self.packed: dict[int, Llama] = {}  # for one row, two, and (at 3) any more

    @torch.no_grad()
    def __call__(self, cells: Tensor, cache: LlamaCache) -> Tensor:
        """Cells [B, m], which follow the cache's -> logits [B, m, K] of what follows each of them."""
        rows = min(cells.numel(), 3)
        if rows not in self.packed:
            self.packed[rows] = pack_module(self.prior, rows)
        prior = self.packed[rows]
        start = cache.prefix_length + cache.cells
        logits = prior.evaluate(prior.tok_embeddings(cells), cache.prefix, cache.past, start)
        cache.cells += cells.shape[1]
        return logits


def attention_mask(start: int, end: int, prefix_mask: Tensor | None, device: torch.device) -> Tensor | None:
    """Who may look where, [end - start, end], or [B, 1, end - start, end] with a mask [B, P] of the prefix; None where
    causality, or a single token, says it all. A hidden token sees itself, so that its softmax has something to sum."""
    if prefix_mask is None and (start == 0 or end - start == 1):
        return None
    place = torch.arange(end, device=device)
    causal = place <= place[start:, None]  # [T, end]
    if prefix_mask is None:
        return causal
    visible = F.pad(prefix_mask, (0, end - prefix_mask.shape[1]), value=True)[:, None, None]  # [B, 1, 1, end]
    return causal & visible | (place == place[start:, None])


def control_of(per_cell: Tensor | None, first: int, end: int) -> Tensor | None:
    """Control [B, n, N, C] of the cells from `first` to before `end`: those that tokens predict. Before cell 0, where a
    prefix predicts none, it is zero."""
    if per_cell is None:
        return None
    return F.pad(per_cell[:, max(0, first) : max(0, end)], (0, 0, 0, 0, max(0, -first), 0))


def repeat_rows(prefix: Prefix, rows: int) -> Prefix:
    """Each row of the prefix as often as it takes to be `rows`."""
    each = rows // len(prefix)
    parts = (prefix.tokens, prefix.mask, prefix.per_cell)
    return prefix if each == 1 else Prefix(*(None if t is None else t.repeat_interleave(each, 0) for t in parts))
