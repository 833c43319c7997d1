"""A Llama-style prior over the cells of a window, as LlamaGen trains them (arXiv 2406.06525).

    prefix, cells --embedding--> blocks (RMSNorm, causal attention with 2-D rotary positions, SwiGLU) --> logits

No biases, no learned positions: a query and a key are turned by the row and column of their cell, so only the distance
between two cells counts. Tensor names are those of the released files. A prefix token is an embedding row, or a text
feature through a small MLP; what controls an image cell by cell (ControlAR, arXiv 2410.02705) is added to the stream
before some of the blocks, at the position that predicts the cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..modules import Stack
from ..prefix import Prefix
from ..storage.kinds import Kind
from .base import Prior
from .llama_blocks import Block, FeaturePrefix, RMSNorm
from .packed_module import pack_module
from .rotary import grid_rotations

MAX_LAYERS = 1000  # a file that asks for millions would never finish


@dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """Everything that decides the shape of a prior; the defaults are LlamaGen-B. ValueError for impossible values.

    prefix_rows: rows of the embedding that belong to the prefix alone, tokens K, K + 1, ...
    feature_width: of text features, for a prefix of vectors; 0 where the prefix is tokens.
    prefix_length: tokens; of text features the most there may be.
    prefix_rotation: what rotary positions do to the prefix's queries and keys. LlamaGen multiplies them by zero, so
        that a cell weighs all prefix tokens alike; the identity lets it choose among them.
    control_layers: the blocks before which control is added.
    whole_canvas: trained on images of several shapes, of up to window**2 cells: the window is always the whole canvas,
        and its cells are counted on, row by row, over a grid `window` cells wide whatever the canvas's own width.
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
    whole_canvas: bool = False
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


class Llama(nn.Module, Prior):
    """The prior. A prefix is tokens [B, P] int64 from K on, or features [B, P, F] with a mask where their lengths
    differ; what is added per cell is [B, window**2, N, C], for the N `control_layers`."""

    config: LlamaConfig

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.config = config
        self.tok_embeddings = nn.Embedding(config.vocab_size, config.width)  # codes, then the prefix's own tokens
        if config.feature_width:
            self.cls_embedding = FeaturePrefix(config.prefix_length, config.feature_width, config.width)
        self.layers = Stack(Block(config.width, config.heads, config.hidden) for _ in range(config.layers))
        self.norm = RMSNorm(config.width)
        self.output = nn.Linear(config.width, config.codebook_size, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)

    @property
    def whole_canvas(self) -> bool:
        """Whether the window is always the whole canvas."""
        return self.config.whole_canvas

    def forward(self, prefix: Prefix | Tensor, cells: Tensor) -> Tensor:
        """Logits of every cell from the prefix and the cells before it.

        Args:
            prefix: of B rows or one; its tokens alone where nothing else belongs to it.
            cells: [B, n] int64 in 0..K-1, row by row; the last one is predicted but not looked at.
        Returns:
            [B, n, K].
        """
        prefix = Prefix.of(prefix)
        return self._first(prefix.expand(len(cells)), cells[:, :-1], cells.shape[1], None)

    def check_prefix(self, prefix: Prefix) -> None:
        """Raise ValueError for a prefix of another kind, length, vocabulary or width than this prior takes."""
        c, tokens = self.config, prefix.tokens
        cure = "use the condition that it was trained with"
        kinds = ["tokens", "text"]
        if tokens.is_floating_point() != (c.feature_width > 0):
            given, wanted = kinds[tokens.is_floating_point()], kinds[c.feature_width > 0]
            raise ValueError(f"the condition gives {given}, the prior takes {wanted}; {cure}")
        if c.feature_width:
            if tokens.shape[2] != c.feature_width or not 1 <= prefix.length <= c.prefix_length:
                raise ValueError(
                    f"the text has {prefix.length} features of width {tokens.shape[2]}, the prior takes 1 to "
                    f"{c.prefix_length} of width {c.feature_width}; use the text encoder that it was trained with"
                )
        elif prefix.length != c.prefix_length:
            raise ValueError(
                f"the condition gives prefixes of {prefix.length} tokens, the prior takes {c.prefix_length}; {cure}"
            )
        elif len(outside := tokens[(tokens < c.codebook_size) | (tokens >= c.vocab_size)]):
            known = f"{c.codebook_size} to {c.vocab_size - 1}"
            raise ValueError(f"the condition holds token {int(outside[0])}, the prior knows {known}; {cure}")
        wanted = (len(c.control_layers), c.width)
        if prefix.per_cell is not None and prefix.per_cell.shape[2:] != wanted:
            raise ValueError(
                f"control has shape {tuple(prefix.per_cell.shape[2:])} a cell, the prior takes {wanted}; "
                "use the control encoder that it was trained with"
            )

    def cache_bytes(self, cells: int, sharing: int = 1) -> int:
        """Bytes of one sequence's cache: keys and values of its prefix, which is not shared, and `cells` cells."""
        tokens = self.config.prefix_length + cells
        return 2 * self.config.layers * self.config.width * tokens * self.dtype.itemsize

    def work_bytes(self, sequences: int, steps: int) -> int:
        """Bytes at most that evaluating takes beyond weights and caches, whole windows at a time or a few cells."""
        c = self.config
        tokens = max(sequences * c.context, steps)
        each = 8 * c.width + 3 * c.hidden  # numbers a token in the widest block, attention's copies included
        return tokens * each * self.dtype.itemsize + max(sequences, steps) * 8 * c.codebook_size

    @torch.no_grad()
    def start(self, prefix: Prefix, cells: Tensor, last: int = 1, room: int = 0) -> tuple[Tensor, LlamaCache | None]:
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
        c, length = self.config, prefix.length
        shape = (c.layers, 2, len(prefix), c.heads, length + room, c.width // c.heads)
        return LlamaCache(self.norm.weight.new_empty(shape), prefix, length)

    def _first(self, prefix: Prefix, cells: Tensor, last: int, cache: LlamaCache | None) -> Tensor:
        """Prefix and cells [B, n] from the beginning: the last predictions' logits [B, last, K]."""
        if self.config.feature_width:
            embedded = self.cls_embedding(prefix.tokens.to(self.dtype))  # [B, P, C]
        else:
            embedded = self.tok_embeddings(prefix.tokens)
        x = torch.cat([embedded, self.tok_embeddings(cells)], 1)
        logits = self.evaluate(x, prefix, None if cache is None else cache.past, 0, last)
        if cache is not None:
            cache.cells = cells.shape[1]
        return logits

    def decay_groups(self, weight_decay: float) -> list[dict]:
        """Optimizer groups: weight decay for the weights of linear layers only."""
        decayed = {m.weight: None for m in self.modules() if isinstance(m, nn.Linear)}
        rest = [p for p in self.parameters() if p not in decayed]
        return [{"params": list(decayed), "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]

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
        end, length = start + x.shape[1], prefix.length
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
    """Evaluates more cells of windows that stand still; holds the weights as a CPU reads them fastest."""

    def __init__(self, prior: Llama):
        self.prior = pack_module(prior)

    @torch.no_grad()
    def __call__(self, cells: Tensor, cache: LlamaCache, last: int | None = None) -> Tensor:
        """Cells [B, m], which follow the cache's -> logits [B, last or m, K] of what follows the last of them."""
        start = cache.prefix_length + cache.cells
        logits = self.prior.evaluate(self.prior.tok_embeddings(cells), cache.prefix, cache.past, start, last or 0)
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
    if each == 1:
        return prefix
    added = (None if part is None else part.repeat_interleave(each, 0) for part in (prefix.mask, prefix.per_cell))
    return Prefix(prefix.tokens.repeat_interleave(each, 0), *added)


KIND: Kind[Prior] = Kind("llama", Llama, LlamaConfig)
