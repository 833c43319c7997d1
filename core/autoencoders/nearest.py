"""arXiv eq. 2: the nearest code of each latent. Plainly,

    z_q = argmin over the codes e_k of |z - e_k|     indices = torch.cdist(latents, codes).argmin(1)

Here the same indices, but without the [N, K] distances in memory: in tiles that fit the cache.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .precision import exact_float32

# Codes and latents whose distances are held at once: 4 MB in float32
CODES_TILE, LATENTS_TILE = 2048, 512
GROUP = 32  # codes; the minimum of each group comes first, since a place costs much more to find than a value


def nearest_code(latents: Tensor, codes: Tensor, product: bool = False) -> Tensor:
    """Index of the nearest code for each latent (arXiv eq. 2), the first one on ties; with `product` of the code whose
    product with it is largest.

    |z|^2 is the same for every code and left out; the distances are made and used tile by tile, so memory
    stays the same however large N and K are. Inside autocast, too, they are as exact as the arguments: with fewer
    digits close codes change places.

    Args:
        latents: [N, D].
        codes: [K, D].
    Returns:
        [N] int64 in 0..K-1.
    """
    with exact_float32(latents.device):
        return torch.cat([nearest_in_tiles(tile, codes, product) for tile in latents.split(LATENTS_TILE)])


def nearest_in_tiles(latents: Tensor, codes: Tensor, product: bool = False) -> Tensor:
    """`nearest_code` for one tile of latents, [n, D] -> [n]."""
    everyone = torch.arange(len(latents), device=latents.device)
    best = torch.full_like(latents[:, 0], math.inf)
    nearest = torch.zeros_like(everyone)
    for start in range(0, len(codes), CODES_TILE):
        tile = codes[start : start + CODES_TILE]  # [k, D]
        group = math.gcd(len(tile), GROUP)
        half_norms = tile.square().sum(1, keepdim=True) * (0 if product else 0.5)
        distances = torch.addmm(half_norms, tile, latents.t(), alpha=-1)  # [k, n], |e|^2/2 - z.e
        distances = distances.view(-1, group, len(latents))
        smallest, groups = distances.amin(1).min(0)  # [n]
        places = groups * group + distances[groups, :, everyone].argmin(1)
        closer = smallest < best
        best = torch.where(closer, smallest, best)
        nearest = torch.where(closer, start + places, nearest)
    return nearest


def as_rows(latents: Tensor) -> Tensor:
    """[B, D, h, w] -> [B*h*w, D]"""
    return latents.movedim(1, -1).flatten(0, 2)
