"""The codebook: latents to the nearest of K learned codes and back (paper section 3.1, arXiv eq. 2 and 4).

Two ways to quantize behind one call, `quantized = codebook(latents)`:
`VectorQuantizer` (nearest code; learned by gradient or by moving average, optionally on the unit sphere)
and `GumbelQuantizer` (a categorical choice relaxed by Gumbel noise while training).

arXiv eq. 4, with sg the stop-gradient; x is the image, z = E(x), z_q the codes:

    L_VQ = |x - G(z_q)|^2 + |sg(z) - z_q|^2 + |sg(z_q) - z|^2

The last two terms, each with a weight of its own, are the quantizer's `loss`. The first is the reconstruction loss of
`training/stages/vqgan.py`, which is L1 and LPIPS in the paper's models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .nearest import as_rows, nearest_code
from .precision import exact_float32


@dataclass(frozen=True, kw_only=True)
class QuantizerLosses:
    """Weights of a quantizer's loss, and the pace of its moving average. They matter to training only."""

    commitment_weight: float = 0.25  # on |sg(z_q) - z|^2 of arXiv eq. 4 (released models: 1)
    codebook_weight: float = 1.0  # on |z_q - sg(z)|^2 of arXiv eq. 4 (released models: 0.25)
    ema_decay: float = 0.99
    kl_weight: float = 5e-4  # Gumbel only (released models: 1e-8)


class Quantized(NamedTuple):
    """What a quantizer makes of latents."""

    codes: Tensor  # [B, D, h, w], with the straight-through gradient while training
    indices: Tensor  # [B, h, w] int64 in 0..K-1
    loss: Tensor  # scalar: the stop-gradient terms of arXiv eq. 4, or the KL term of the Gumbel codebook


class VectorQuantizer(nn.Module):
    """Nearest-code quantization (arXiv eq. 2) with `size` codes of `dim` numbers.

    Args:
        normalize: compare directions only: latents and codes on the unit sphere.
        product: the code with the largest product instead of the nearest one (IBQ, arXiv:2412.02692); for use only.
        ema: the codes follow the latents by moving average (call `ema_update` after each training step), and the
            codebook term of the loss is left out.
    """

    ema_count: Tensor  # [K], with `ema`
    ema_sum: Tensor  # [K, D]

    def __init__(
        self,
        size: int,
        dim: int,
        *,
        normalize: bool = False,
        product: bool = False,
        ema: bool = False,
        losses: QuantizerLosses = QuantizerLosses(),
    ):
        super().__init__()
        self.size, self.normalize, self.product, self.ema, self.losses = size, normalize, product, ema, losses
        self.embedding = nn.Embedding(size, dim)
        nn.init.uniform_(self.embedding.weight, -1 / size, 1 / size)
        if ema:
            self.embedding.weight.requires_grad_(False)
            self.register_buffer("ema_count", torch.ones(size))
            self.register_buffer("ema_sum", self.embedding.weight.detach().clone())

    @property
    def codes(self) -> Tensor:
        """[K, D], of length one where the config asks for it."""
        weight = self.embedding.weight
        return F.normalize(weight, dim=1) if self.normalize else weight

    def lookup(self, indices: Tensor) -> Tensor:
        """Indices [B, h, w] int64 -> codes [B, D, h, w].

        Raises:
            ValueError: an index outside 0..K-1.
        """
        check_indices(indices, self.size)
        return F.embedding(indices, self.codes).movedim(-1, 1)

    def forward(self, latents: Tensor) -> Quantized:
        """Latents [B, D, h, w] -> the nearest codes, their indices, and arXiv eq. 4's last two terms."""
        if self.normalize:
            latents = F.normalize(latents, dim=1)
        batch, _, height, width = latents.shape
        with torch.no_grad():
            # float32: in half precision the order of close distances is lost
            indices = nearest_code(as_rows(latents).float(), self.codes.float(), self.product)
        indices = indices.view(batch, height, width)
        codes = F.embedding(indices, self.codes).movedim(-1, 1).to(latents.dtype)
        loss = self.losses.commitment_weight * F.mse_loss(latents, codes.detach())
        if not self.ema:
            loss = loss + self.losses.codebook_weight * F.mse_loss(codes, latents.detach())
        straight_through = latents + (codes - latents).detach()  # the gradient skips the argmin
        return Quantized(straight_through, indices, loss)

    def unquantized(self, latents: Tensor) -> Quantized:
        """Latents [B, D, h, w] in the place of codes, of length one where codes are; every index is 0, the loss too."""
        codes = F.normalize(latents, dim=1) if self.normalize else latents
        return Quantized(codes, latents.new_zeros(latents[:, 0].shape, dtype=torch.int64), latents.new_zeros(()))

    @torch.no_grad()
    def init_kmeans(self, latents: Tensor, generator: torch.Generator, rounds: int = 5) -> None:
        """Place the codes by k-means on the first batch's latents [N, D], instead of at random."""
        latents = F.normalize(latents, dim=1) if self.normalize else latents
        codes = _random_rows(latents, self.size, generator)
        # jitter keeps repeated rows apart when there are fewer latents than codes
        codes = codes + 1e-3 * latents.std() * torch.randn(codes.shape, generator=generator).to(codes)
        for _ in range(rounds):
            counts, sums = _assign(latents, codes)
            codes = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], codes)
        self.embedding.weight.copy_(codes)
        self.reset_ema()

    @torch.no_grad()
    def reset_ema(self) -> None:
        """Begin the moving average at the present codes; needed after codes were set from outside."""
        if self.ema:
            self.ema_count.fill_(1.0)
            self.ema_sum.copy_(self.embedding.weight)

    @torch.no_grad()
    def ema_update(self, latents: Tensor, valid: Tensor | bool = True) -> None:
        """Move each code towards the mean of the latents [N, D] it was chosen for (EMA codebook); where not `valid`,
        a bool on the device, leave all as it is."""
        latents = F.normalize(latents, dim=1) if self.normalize else latents
        counts, sums = _assign(latents.float(), self.codes)
        valid = torch.as_tensor(valid, device=counts.device)
        counts, sums = torch.where(valid, counts, self.ema_count), torch.where(valid, sums, self.ema_sum)
        decay = self.losses.ema_decay
        self.ema_count.lerp_(counts, 1 - decay)
        self.ema_sum.lerp_(sums, 1 - decay)
        # Laplace smoothing: a code that is rarely chosen keeps a finite length
        total = self.ema_count.sum()
        smoothed = (self.ema_count + 1e-5) / (total + 1e-5 * len(counts)) * total
        moved = self.ema_sum / smoothed[:, None]
        self.embedding.weight.copy_(torch.where(valid, moved, self.embedding.weight))

    @torch.no_grad()
    def restart_codes(self, dead: Tensor, latents: Tensor, generator: torch.Generator) -> None:
        """Replace the codes where `dead` [K] bool by random latents of [N, D]."""
        latents = F.normalize(latents, dim=1) if self.normalize else latents
        replacement = _random_rows(latents.float(), int(dead.sum()), generator)
        self.embedding.weight[dead] = replacement
        if self.ema:
            self.ema_sum[dead] = replacement
            self.ema_count[dead] = 1.0


class GumbelQuantizer(nn.Module):
    """A categorical choice per cell among `size` codes of `dim` numbers.

    While training the choice is drawn with Gumbel noise and its gradient is that of the softmax at `temperature`;
    otherwise it is the most likely code. (The released code draws noise even when encoding for use, which makes its
    indices random.)
    """

    def __init__(
        self,
        size: int,
        dim: int,
        latent_channels: int,
        *,
        losses: QuantizerLosses = QuantizerLosses(),
    ):
        super().__init__()
        self.size, self.losses = size, losses
        self.proj = nn.Conv2d(latent_channels, size, 1)
        self.embed = nn.Embedding(size, dim)
        self.temperature = 1.0

    @property
    def codes(self) -> Tensor:
        """[K, D]"""
        return self.embed.weight

    def lookup(self, indices: Tensor) -> Tensor:
        """Indices [B, h, w] int64 -> codes [B, D, h, w]; ValueError for an index outside 0..K-1."""
        check_indices(indices, self.size)
        return self.embed(indices).movedim(-1, 1)

    def forward(self, latents: Tensor) -> Quantized:
        """Latents [B, latent_channels, h, w] -> chosen codes, indices, kl_weight * KL(q || uniform)."""
        with exact_float32(latents.device):
            logits = self.proj(latents.to(self.proj.weight.dtype))  # [B, K, h, w]
        if self.training:
            choice = F.gumbel_softmax(logits, tau=self.temperature, dim=1, hard=True)
            indices = choice.argmax(1)
            codes = torch.einsum("bkhw,kd->bdhw", choice, self.codes)
        else:
            indices = logits.argmax(1)
            codes = self.lookup(indices)
        probabilities = logits.softmax(1)
        kl = (probabilities * (probabilities * self.size + 1e-10).log()).sum(1).mean()
        return Quantized(codes, indices, self.losses.kl_weight * kl)


def check_indices(indices: Tensor, codebook_size: int) -> None:
    """Raise ValueError unless every index is in 0..codebook_size-1."""
    low, high = int(indices.min()), int(indices.max())
    if low < 0 or high >= codebook_size:
        raise ValueError(
            f"indices run from {low} to {high}, the codebook has 0 to {codebook_size - 1}; "
            "the canvas was made with another VQGAN"
        )


def _assign(latents: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """How many latents [N, D] each code is nearest to, [K], and their sums, [K, D]."""
    indices = nearest_code(latents, codes)
    counts = torch.bincount(indices, minlength=len(codes)).to(latents.dtype)
    return counts, torch.zeros_like(codes).index_add_(0, indices, latents)


def _random_rows(rows: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """`number` rows of [N, D], without repeats as long as there are enough."""
    order = torch.randperm(len(rows), generator=generator)
    repeats = -(-number // len(rows))
    return rows[order.repeat(repeats)[:number].to(rows.device)]


class CodebookUsage(NamedTuple):
    """How well a codebook is used; `perplexity` is exp(entropy), between 1 and K."""

    usage: float  # share of the codes used at least once, 0..1
    perplexity: float
    dead: int  # codes never used


def codebook_usage(counts: Tensor) -> CodebookUsage:
    """Usage, perplexity and dead codes from how often each code was used, counts [K]."""
    counts = counts.double()
    dead = int((counts == 0).sum())
    probabilities = counts / counts.sum().clamp(min=1)
    entropy = -torch.special.xlogy(probabilities, probabilities).sum()
    return CodebookUsage(1 - dead / len(counts), float(entropy.exp()), dead)
