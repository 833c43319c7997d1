"""The transformer prior: which code comes next, given a prefix and the cells before (section 3.2, arXiv eq. 9 and 10).

    prefix tokens, cells --embedding + position--> blocks (causal attention, MLP) --> logits over K codes

With `control`, a prefix that is a grid, such as codes of edges, does not stand before the cells: a few convolutions
look at it, and what they find is added where each cell is predicted.

Decoder-only, learned positions, pre-norm, exact GELU: the released models' operations. Three ways through
it give the same logits: `forward` (all cells at once, for training), `start` (a window's prefix and first cells
into a cache) and its `decoder` (a few more cells, for sampling).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..modules import Stack
from ..prefix import Prefix, check_tokens
from ..storage.kinds import Kind
from .base import Prior
from .blocks import Block, norm_of
from .kv_cache import KVCache, SharedPast
from .orders import Order, cells_in_order, check_order
from .snail.layers import GridEncoder
from .token_decoder import TransformerDecoder

WORK_COPIES = 16  # of the residual stream while a window is evaluated
MAX_LAYERS = 1000  # a file that asks for millions would never finish


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Everything that decides the shape of a prior. ValueError for values that no model can be built from."""

    layers: int = 24
    width: int = 1024
    heads: int = 16
    codebook_size: int = 1024  # K, the codes it can predict
    vocab_size: int = 1024  # rows of the embedding: image codes first, then condition tokens
    prefix_length: int = 256  # tokens
    window: int = 16  # cells per side
    unmasked: int = 0  # number of leading tokens that attend to each other both ways (released: n_unmasked)
    dropout: float = 0.0
    order: Order = "row"  # in which the cells of a window are predicted
    control: bool = False  # the prefix, a square grid, is added cell by cell
    norm: Literal["layer", "rms"] = "layer"  # "rms" is Image-GPT's, as is "quick-gelu"
    activation: Literal["gelu", "quick-gelu"] = "gelu"

    def __post_init__(self):
        for name in ("layers", "width", "heads", "codebook_size", "prefix_length", "window"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.layers > MAX_LAYERS:
            raise ValueError(f"layers is {self.layers}; choose at most {MAX_LAYERS}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide by heads {self.heads}; choose a multiple")
        if self.vocab_size < self.codebook_size:
            raise ValueError(f"vocab_size {self.vocab_size} is below codebook_size {self.codebook_size}; raise it")
        if not 0 <= self.unmasked <= self.prefix_length:
            raise ValueError(f"unmasked is {self.unmasked}; choose 0 to prefix_length {self.prefix_length}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; choose 0 (off) to below 1")
        check_order(self.order, self.window)
        if self.control and (math.isqrt(self.prefix_length) ** 2 != self.prefix_length or self.unmasked):
            raise ValueError(
                f"control needs a prefix that is a square grid and nothing unmasked, not {self.prefix_length} tokens, "
                f"{self.unmasked} unmasked"
            )
        for name, known in (("norm", ("layer", "rms")), ("activation", ("gelu", "quick-gelu"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r} is unknown; use {' or '.join(known)}")

    @property
    def before(self) -> int:
        """Tokens before the cells: the prefix, or with control its first one, to begin with."""
        return 1 if self.control else self.prefix_length

    @property
    def context(self) -> int:
        """Longest sequence: those and all cells of a window."""
        return self.before + self.window**2


class Transformer(nn.Module, Prior):
    """The prior. Tokens are rows of one embedding: codes 0..K-1 first, the prefix's own after them."""

    config: TransformerConfig

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        self.checkpointing = False  # True: training works blocks out twice rather than keep what is in them
        self.tok_emb = nn.Embedding(config.vocab_size, config.width)
        self.pos_emb = nn.Parameter(torch.zeros(1, config.context, config.width))
        side = math.isqrt(config.prefix_length)
        self.control = GridEncoder(config.width, side, config.window) if config.control else None
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = Stack(
            Block(config.width, config.heads, config.dropout, config.norm, config.activation)
            for _ in range(config.layers)
        )
        self.ln_f = norm_of(config.norm, config.width)
        self.head = nn.Linear(config.width, config.codebook_size, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    @torch.no_grad()
    def init_grid_positions(self) -> None:
        """Begin training with a sense of place: tokens look first at those near them on the grid.

        Positions are sines of row and column (Vaswani et al. 2017, section 3.5, in two dimensions), twice as large
        as a token's embedding, and queries begin as keys, so that near ones match. A prefix as long as the window
        has cells begins with the same positions: each cell finds the condition at its own place from the first
        steps on, which from zeros takes thousands.
        """
        cells = grid_positions(self.config.window, self.config.width)  # [n, C]
        first = self.config.before
        if first == len(cells):
            self.pos_emb[0, :first] = cells
        # a cell is predicted one position before its own: there it has its place
        self.pos_emb[0, first:-1] = cells[1:]
        for block in self.blocks:
            queries, keys, _ = block.attn.qkv.weight.chunk(3)
            queries.normal_(std=0.05)
            keys.copy_(queries)

    def forward(self, prefix: Tensor, cells: Tensor) -> Tensor:
        """Logits of every cell from the prefix and the cells before it.

        Args:
            prefix: [B, P] int64, or [1, P]: worked out once for all.
            cells: [B, n] int64 in 0..K-1, row by row; the last one is predicted but not looked at. All of a window
                where their order is another.
        Returns:
            [B, n, K], row by row.
        """
        if self.order is not None:
            order = torch.tensor(self.order, device=cells.device)
            return self._logits(prefix, cells[:, order])[:, order.argsort()]
        return self._logits(prefix, cells)

    def _logits(self, prefix: Tensor, cells: Tensor) -> Tensor:
        """`forward` of cells in the order in which they are predicted."""
        (before, control), seen = self._before(prefix), cells[:, :-1]
        length = before.shape[1]
        if len(prefix) == len(cells) or control is not None:
            tokens = torch.cat([before.expand(len(cells), -1), seen], 1)
            x = self._run_blocks(tokens, 0, [None] * len(self.blocks), control)[:, length - 1 :]
        else:
            pasts = [SharedPast() for _ in self.blocks]
            last = self._run_blocks(before, 0, pasts)[:, -1:].expand(len(cells), -1, -1)
            x = torch.cat([last, self._run_blocks(seen, length, pasts)], 1)
        return self.head(self.ln_f(x))

    def _before(self, prefix: Tensor) -> tuple[Tensor, Tensor | None]:
        """The tokens that stand before the cells, [B, before], and what is added to the stream at each token,
        [B, context, C], if anything is: at the place from which a cell is predicted, what belongs to it."""
        if self.control is None:
            return prefix, None
        control = self.control(self.tok_emb(prefix))  # [B, n, C]
        control = control if self.order is None else control[:, list(self.order)]
        return prefix[:, :1], F.pad(control, (0, 0, 0, 1))

    def _embed(self, tokens: Tensor, start: int, control: Tensor | None) -> Tensor:
        """Tokens [B, T] at positions from `start` on, with what is added there: [B, T, C]."""
        end = start + tokens.shape[1]
        x = self.tok_emb(tokens) + self.pos_emb[:, start:end]
        return x if control is None else x + control[:, start:end]

    def _run_blocks(
        self, tokens: Tensor, start: int, pasts: Sequence[SharedPast | None], control: Tensor | None = None
    ) -> Tensor:
        """Tokens [B, T] at positions from `start` on through all blocks: [B, T, C]."""
        x = self.dropout(self._embed(tokens, start, control))
        mask = self.mask(start, start + tokens.shape[1])
        for block, past in zip(self.blocks, pasts, strict=True):
            if self.checkpointing and past is None and torch.is_grad_enabled():
                x = checkpoint(block, x, mask, None, start, use_reentrant=False)
            else:
                x = block(x, mask, past, start)
        return x

    def loss(self, prefix: Tensor, cells: Tensor, pkeep: float = 1.0) -> Tensor:
        """Mean negative log-likelihood of the cells, nats per code (arXiv eq. 9); the prefix is not predicted.

        Args:
            prefix: [B, P] int64.
            cells: [B, n] int64.
            pkeep: share of the input cells left as they are; the others are replaced by random codes, so
                that the model learns to go on from its own mistakes.
        """
        return cell_loss(self(prefix, corrupt(cells, pkeep, self.config.codebook_size)), cells)

    @property
    def order(self) -> tuple[int, ...] | None:
        """See `base.Prior`."""
        return None if self.config.order == "row" else cells_in_order(self.config.order, self.window)

    def check_prefix(self, prefix: Prefix) -> None:
        """Raise ValueError for a prefix of another length, or with tokens that are not in the vocabulary."""
        check_tokens(prefix, self.config.prefix_length, self.config.vocab_size)

    def cache_bytes(self, cells: int, sharing: int = 1) -> int:
        """Bytes of one sequence's cache, its prefix shared by `sharing` sequences."""
        tokens = self.config.before / (1 if self.control else sharing) + cells
        return round(2 * self.config.layers * self.config.width * tokens * self.pos_emb.element_size())

    def work_bytes(self, sequences: int, steps: int) -> int:
        """What evaluating takes at its peak beyond weights and caches: the residual stream with q, k, v and the MLP's
        wide layers, and where more than two rows are decoded at a time, the weights in another layout."""
        width, element = self.config.width, self.pos_emb.element_size()
        copies = 12 * self.config.layers * width**2 if self.pos_emb.is_cpu and steps > 2 else 0
        return element * (WORK_COPIES * sequences * self.config.context * width + copies)

    @torch.no_grad()
    def start(self, prefix: Prefix, cells: Tensor, last: int = 1, room: int = 0) -> tuple[Tensor, KVCache | None]:
        """Evaluate a prefix and the first cells of its window: see `base.Prior.start`. A prefix that several sequences
        share is read once."""
        (before, control), each = self._before(prefix.tokens), len(cells) // len(prefix)
        if control is not None:  # of every cell, so nothing is the same for all
            before, control, each = before.repeat_interleave(each, 0), control.repeat_interleave(each, 0), 1
        groups = len(before)
        if each == 1:
            cache = self._new_cache(groups, room) if room else None
            if cache is not None:
                cache.control = control
            return self._append(torch.cat([before, cells], 1), cache, last, control), cache
        cache = self._new_cache(groups, max(room, cells.shape[1]))
        first = self._append(before, cache, 1).repeat_interleave(each, 0)  # [G * E, 1, K]
        cache = cache.expand(len(cells))
        if cells.shape[1] == 0:
            return first, cache
        logits = self._append(cells, cache, min(last, cells.shape[1]))
        return (torch.cat([first, logits], 1) if last > cells.shape[1] else logits), cache

    def decoder(self) -> TransformerDecoder:
        """A decoder of the weights as they are now."""
        return TransformerDecoder(self.tok_emb, self.pos_emb, self.blocks, self.ln_f, self.head)

    def _new_cache(self, batch: int, cells: int) -> KVCache:
        c = self.config
        return KVCache.empty(c.layers, batch, c.heads, c.before, cells, c.width // c.heads, like=self.pos_emb)

    def _append(self, tokens: Tensor, cache: KVCache | None, last: int, control: Tensor | None = None) -> Tensor:
        """Append tokens [B, T] to the cache; logits [B, last, K] of what follows the last of them."""
        start = cache.length if cache is not None else 0
        end = start + tokens.shape[1]
        x = self._embed(tokens, start, control)
        mask = self.mask(start, end)
        pasts = cache.layers if cache is not None else [None] * len(self.blocks)
        *blocks, last_block = self.blocks
        for block, past in zip(blocks, pasts[:-1], strict=True):
            x = block(x, mask, past, start)
        last_mask = None if last == 1 else self.mask(end - last, end, plain=False)
        x = last_block.forward_last(x, last_mask, pasts[-1], start, last)  # of the others, keys and values only
        if cache is not None:
            cache.length = end
        return self.head(self.ln_f(x))

    def mask(self, start: int, end: int, plain: bool = True) -> Tensor | None:
        """Who may look where, [end - start, end] bool; None where `plain` causality from 0 says it all."""
        if plain and start == 0 and self.config.unmasked == 0:
            return None
        place = torch.arange(end, device=self.pos_emb.device)
        return (place <= place[start:, None]) | (torch.maximum(place, place[start:, None]) < self.config.unmasked)

    def decay_groups(self, weight_decay: float) -> list[dict]:
        """Optimizer groups: weight decay for the weights of linear layers only."""
        decayed = {id(m.weight) for m in self.modules() if isinstance(m, nn.Linear)}
        with_decay = [p for p in self.parameters() if id(p) in decayed]
        without = [p for p in self.parameters() if id(p) not in decayed]
        return [{"params": with_decay, "weight_decay": weight_decay}, {"params": without, "weight_decay": 0.0}]


def grid_positions(side: int, width: int) -> Tensor:
    """Sines and cosines of the row, then of the column, of side x side cells: [side**2, width], deviation 0.04."""
    quarter = -(-width // 4)
    waves = torch.arange(side).unsqueeze(1) * float(side) ** (-torch.arange(quarter) / quarter)  # [side, quarter]
    line = torch.cat([waves.sin(), waves.cos()], 1)  # [side, 2 * quarter]
    rows, columns = line.repeat_interleave(side, 0), line.repeat(side, 1)
    return 0.04 * 2**0.5 * torch.cat([rows, columns], 1)[:, :width]


def corrupt(cells: Tensor, pkeep: float, codebook_size: int) -> Tensor:
    """Cells [B, n] with all but a share `pkeep` of them replaced by random codes (the released pkeep)."""
    if pkeep >= 1:
        return cells
    noise = torch.randint_like(cells, codebook_size)
    return torch.where(torch.rand(cells.shape, device=cells.device) < pkeep, cells, noise)


def cell_loss(logits: Tensor, cells: Tensor) -> Tensor:
    """Mean negative log-likelihood of cells [B, n] under logits [B, n, K], nats per code (arXiv eq. 9)."""
    return F.cross_entropy(logits.flatten(0, 1).float(), cells.flatten())


KIND: Kind[Prior] = Kind("transformer", Transformer, TransformerConfig)
