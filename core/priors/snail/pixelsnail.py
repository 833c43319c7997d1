"""PixelSNAIL as a prior of codes (arXiv 1712.09763), the transformer's rival in section 4.1 (arXiv table 1).

    cells --embedding--> strict convolution --> blocks (gated causal layers, attention to the cells before) --> logits

A prefix of one token, such as a class, is a bias before every gate; one of h' x w' tokens, such as codes of edges, is
a grid that goes through a few layers of its own, is brought to the window's cells and added there. The attention's keys
and values know the code at their own place, which is what makes it look up earlier codes directly.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from functools import partial
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...modules import Stack
from ...prefix import Prefix, check_tokens
from ...storage.kinds import Kind
from ..base import Prior
from .layers import CausalConv, GatedLayer, GridEncoder, NormedLinear, Span

MAX_LAYERS = 1000  # a file that asks for millions would never finish
WORK_COPIES = 16  # of the stream while a window is evaluated, patches of convolutions apart


@dataclass(frozen=True, kw_only=True)
class PixelSnailConfig:
    """Everything that decides the shape of a PixelSNAIL. ValueError for values that no model can be built from."""

    blocks: int = 4
    layers: int = 4  # gated ones in each block
    width: int = 256
    kernel: int = 5  # width of the causal convolutions
    key_width: int = 16  # of the attention's one head
    codebook_size: int = 1024  # K, the codes it can predict
    vocab_size: int = 1024  # rows of the embedding: image codes first, then condition tokens
    prefix_length: int = 256  # tokens: one, or a square grid of them
    window: int = 16  # cells per side
    dropout: float = 0.0

    def __post_init__(self):
        for name in ("blocks", "layers", "kernel", "key_width", "codebook_size", "prefix_length", "window"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.blocks * self.layers > MAX_LAYERS:
            raise ValueError(f"{self.blocks} blocks of {self.layers} layers are too many; choose at most {MAX_LAYERS}")
        if self.width < 2 or self.width % 2:
            raise ValueError(f"width is {self.width}; it must be even")
        if self.kernel % 2 == 0 or self.kernel > 2 * self.window + 1:
            raise ValueError(f"kernel is {self.kernel}; choose an odd number up to {2 * self.window + 1}")
        if math.isqrt(self.prefix_length) ** 2 != self.prefix_length:
            raise ValueError(
                f"a prefix of {self.prefix_length} tokens is no square grid; PixelSNAIL takes one token or a grid"
            )
        if self.vocab_size < self.codebook_size:
            raise ValueError(f"vocab_size {self.vocab_size} is below codebook_size {self.codebook_size}; raise it")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; choose 0 (off) to below 1")


@dataclass
class SnailCache:
    """What the layers were given at the cells of windows that stand still."""

    condition: Tensor  # [B, 1 or window**2, C]
    grids: list[Tensor]  # [B, window**2 + 1, C], of each convolution and each block's features, in their order
    memories: list[tuple[Tensor, Tensor]]  # keys and values of each block, [B, window**2 + 1, d]; the first are zero
    cells: int = 0  # evaluated so far

    def rollback(self, cells: int) -> None:
        """Forget all but the first `cells` cells."""
        self.cells = cells


class Attention(nn.Module):
    """Attention of a position to the cells before it; one place further on than the first stands a zero, all that the
    first cell sees."""

    def __init__(self, width: int, key_width: int):
        super().__init__()
        self.key_width = key_width
        self.query = NormedLinear(width + 2, key_width)
        self.memory = NormedLinear(2 * width + 2, key_width + width // 2)

    def remember(self, codes: Tensor, features: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of cells: embedded codes and features [B, n, C], places [n, 2]."""
        memory = self.memory(torch.cat([codes, features, places.expand(len(codes), -1, -1)], 2))
        return memory[..., : self.key_width], memory[..., self.key_width :]

    def forward(self, features: Tensor, places: Tensor, keys: Tensor, values: Tensor, first: int) -> Tensor:
        """Positions from `first` on, [B, m, C], look at the memories before them, [B, first + m, d]: [B, m, C / 2]."""
        query = self.query(torch.cat([features, places.expand(len(features), -1, -1)], 2))
        seen = None
        if first:
            slot = torch.arange(keys.shape[1], device=keys.device)
            seen = slot <= slot[first:, None]  # [m, first + m]
        return F.scaled_dot_product_attention(query, keys, values, seen, is_causal=seen is None)


class SnailBlock(nn.Module):
    """Gated causal layers, then attention merged by a gated layer without neighbors."""

    def __init__(self, config: PixelSnailConfig):
        super().__init__()
        width, convolution = config.width, partial(CausalConv, kernel=config.kernel)
        self.layers = Stack(
            GatedLayer(width, convolution, condition=width, dropout=config.dropout) for _ in range(config.layers)
        )
        self.attention = Attention(width, config.key_width)
        self.merge = GatedLayer(width, NormedLinear, beside=width // 2, dropout=config.dropout)


class PixelSnail(nn.Module, Prior):
    """The prior. Tokens are rows of one embedding: codes 0..K-1 first, the prefix's own after them."""

    config: PixelSnailConfig

    def __init__(self, config: PixelSnailConfig):
        super().__init__()
        self.config = config
        self.tok_emb = nn.Embedding(config.vocab_size, config.width)
        side = math.isqrt(config.prefix_length)
        self.condition = GridEncoder(config.width, side, config.window) if side > 1 else nn.Identity()
        self.enter = CausalConv(config.width, config.width, config.kernel, strict=True)
        self.blocks = Stack(SnailBlock(config) for _ in range(config.blocks))
        self.head = nn.Linear(config.width, config.codebook_size, bias=False)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, prefix: Tensor, cells: Tensor) -> Tensor:
        """Logits of every cell from the prefix and the cells before it.

        Args:
            prefix: [B, P] int64, or [1, P].
            cells: [B, n] int64 in 0..K-1, row by row; the last one is predicted but not looked at.
        Returns:
            [B, n, K].
        """
        return self._whole(self.condition(self.tok_emb(prefix)), cells[:, :-1], cells.shape[1])

    @property
    def places(self) -> Tensor:
        """Where each cell is, [window**2, 2]: row and column from -0.5 on."""
        line = torch.arange(self.window, device=self.device, dtype=self.dtype) / self.window - 0.5
        return torch.stack([line.repeat_interleave(self.window), line.repeat(self.window)], 1)

    def check_prefix(self, prefix: Prefix) -> None:
        """Raise ValueError for a prefix of another length, or with tokens that are not in the vocabulary."""
        check_tokens(prefix, self.config.prefix_length, self.config.vocab_size)

    def cache_bytes(self, cells: int, sharing: int = 1) -> int:
        """What the cache of one sequence takes; its grids are as large as the window from the beginning."""
        c = self.config
        grids = 1 + c.blocks * (2 * c.layers + 1) + c.blocks + 1  # memories are narrower than a grid; the condition
        return round(grids * (c.window**2 + 1) * (c.width + c.key_width) * self.dtype.itemsize)

    def work_bytes(self, sequences: int, steps: int) -> int:
        """What evaluating takes at its peak beyond weights and caches: the stream, and the patches under the taps."""
        c = self.config
        positions, taps = max(sequences * c.window**2, steps), (c.kernel // 2 + 1) * c.kernel
        return self.dtype.itemsize * positions * (c.width * (WORK_COPIES + taps) + c.codebook_size)

    @torch.no_grad()
    def start(self, prefix: Prefix, cells: Tensor, last: int = 1, room: int = 0) -> tuple[Tensor, SnailCache | None]:
        """Evaluate a prefix and the first cells of its window: see `base.Prior.start`."""
        condition = self.condition(self.tok_emb(prefix.tokens))
        condition = condition.repeat_interleave(len(cells) // len(prefix), 0)
        if not room:
            return self._whole(condition, cells, last), None
        cache = self._new_cache(condition)
        return self._cells(cells, cache, 0, last), cache

    def decoder(self) -> PixelSnailDecoder:
        """What evaluates more cells, with the weights as they are now."""
        return PixelSnailDecoder(self)

    def _whole(self, condition: Tensor, cells: Tensor, last: int) -> Tensor:
        """Cells [B, n] from the first on: logits [B, last, K] of the last predictions, those up to cell n."""
        end, side = cells.shape[1] + 1, self.window
        rows = -(-end // side)
        codes = self.tok_emb(F.pad(cells, (0, rows * side - end + 1)))  # [B, rows * side, C]; nobody sees the padding
        span, places = Span(side, 0, rows * side), self.places[: rows * side]
        condition = condition[:, : rows * side]
        x = self.enter(codes, span)
        for block in self.blocks:
            for layer in block.layers:
                x = layer(x, span, condition=condition)
            keys, values = block.attention.remember(codes[:, :-1], x[:, :-1], places[:-1])
            keys, values = (F.pad(memory, (0, 0, 1, 0)) for memory in (keys, values))
            x = block.merge(x, beside=block.attention(x, places, keys, values, 0))
        return self.head(F.elu(x[:, end - last : end]))

    def _cells(self, cells: Tensor, cache: SnailCache, first: int, last: int) -> Tensor:
        """The cells that follow those of the cache, predictions from position `first` on: [B, last, K]."""
        end, before = cache.cells + cells.shape[1] + 1, max(0, first - 1)
        codes, places = self.tok_emb(cells), self.places
        condition = cache.condition[:, first:end] if cache.condition.shape[1] > 1 else cache.condition
        grids = iter(cache.grids)
        span = Span(self.window, first, end, grids)
        x = self.enter(codes, span)
        for block, (keys, values) in zip(self.blocks, cache.memories, strict=True):
            for layer in block.layers:
                x = layer(x, span, condition=condition)
            features = next(grids)
            features[:, first:end] = x
            seen = features[:, before : end - 1], places[before : end - 1]
            for memory, new in zip((keys, values), block.attention.remember(codes, *seen), strict=True):
                memory[:, before + 1 : end] = new
            x = block.merge(x, beside=block.attention(x, places[first:end], keys[:, :end], values[:, :end], first))
        cache.cells = end - 1
        return self.head(F.elu(x[:, -last:]))

    def _new_cache(self, condition: Tensor) -> SnailCache:
        c, rows = self.config, self.window**2 + 1
        grids = [condition.new_zeros(len(condition), rows, c.width) for _ in range(1 + c.blocks * (2 * c.layers + 1))]
        keys, values = (condition.new_zeros(c.blocks, len(condition), rows, w) for w in (c.key_width, c.width // 2))
        memories = list(zip(keys, values, strict=True))
        return SnailCache(condition, grids, memories)

    def decay_groups(self, weight_decay: float) -> list[dict]:
        """Optimizer groups: weight decay for the head alone; that of a normalized weight would do nothing."""
        rest = [parameter for parameter in self.parameters() if parameter is not self.head.weight]
        return [{"params": [self.head.weight], "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


class PixelSnailDecoder:
    """Evaluates more cells of windows that stand still, its normalized weights worked out once."""

    def __init__(self, prior: PixelSnail):
        shared = {id(tensor): tensor for tensor in chain(prior.parameters(), prior.buffers())}
        self.prior = copy.deepcopy(prior, shared)
        for module in self.prior.modules():
            if isinstance(module, NormedLinear):
                module.fold()

    @torch.no_grad()
    def __call__(self, cells: Tensor, cache: SnailCache, last: int | None = None) -> Tensor:
        """Cells [B, m], which follow the cache's -> logits [B, last or m, K] of what follows the last of them."""
        return self.prior._cells(cells, cache, cache.cells + 1, last or cells.shape[1])


KIND: Kind[Prior] = Kind("pixelsnail", PixelSnail, PixelSnailConfig)
