"""What a prior paints of held-out drawings: a grid to look at, and figures of what it looks like."""

import math

import torch
from torch import Tensor

from ...core.bundle import Bundle
from ...core.canvas.canvas import Canvas
from ...core.conditions.base import Condition, StartToken, TokenCondition
from ...core.conditions.edges import EdgeSettings, canny
from ...core.conditions.maps import colorize_labels, enlarge, made_small
from ...core.conditions.spatial import SpatialCondition
from ...core.images.agreement import agree
from ...core.images.metrics import code_agreement, edge_agreement, psnr, ssim
from ...core.sampling.loop import sample
from ...core.sampling.settings import SamplingSettings
from ..config.runs import DataConfig
from ..data.codes import CodeDataset
from ..data.folder import ImageViews
from ..engine.plots import image_grid
from .reconstructions import evenly_spaced

GRID_TEMPERATURE, GUIDANCE = 0.9, 2.0
FLAT = 0.1  # a picture of values in -1..1 that deviate less from their mean has one color
TEMPERATURES = (0.5, 1.0)  # calm, and as trained
BATCH = 16  # pictures sampled at a time


@torch.inference_mode()
def sample_grid(bundle: Bundle, held_out: CodeDataset, number: int, seed: int) -> Tensor:
    """A column for each of `number` held-out drawings: condition, reconstruction, two samples. Of a prior that has
    learned to do without edges the second sample is guided, and a third one has no edges."""
    chosen = evenly_spaced(len(held_out), number)
    rows = [bundle.decode(Canvas.filled(cells_of(bundle, held_out, chosen)))]
    condition = condition_of(bundle, held_out, chosen)
    if isinstance(condition, SpatialCondition):
        rows.insert(0, seen_condition(bundle, condition))
    second = GUIDANCE if bundle.condition_config.unconditional else 1.0
    for offset, guidance in ((0, 1.0), (len(chosen), second)):
        rows.append(
            bundle.decode(sample_images(bundle, condition, len(chosen), seed + offset, GRID_TEMPERATURE, guidance))
        )
    if bundle.condition_config.unconditional:
        rows.append(sample_unconditional(bundle, len(chosen), seed))
    return image_grid(torch.cat([row.cpu() for row in rows]), len(chosen))


@torch.inference_mode()
def sample_figures(
    bundle: Bundle, held_out: CodeDataset, views: ImageViews, number: int, seed: int
) -> dict[str, float]:
    """What `number` held-out drawings become, by name.

    disagreement_1.0 (and 0.5): mean share of cells that differ between two seeds, by temperature.
    edge_f1, edge_f1_shuffled: of edges, how the lines of samples lie on those that were asked for, and on those
        of another drawing. edge_f1_guided: the same with guidance 2, of a prior that can.
    free_flat: of a prior that can do without edges, the share of pictures painted so, at temperature 0.9, that have
        one color only.
    psnr, ssim: of low-resolution, of samples at temperature 0.5 to the original; with _agreed those that were made to
        agree with the small picture; with _bicubic the small picture enlarged, with _condition that as its codes
        keep it.
    """
    figures: dict[str, list[Tensor]] = {}
    config = bundle.condition_config
    chosen = evenly_spaced(len(held_out), number)
    wanted = [views[0, i] for i in chosen]
    lines, originals = (torch.stack([view[name] for view in wanted]) for name in ("edges", "color"))
    calm, made, guided, seen = [], [], [], []
    for start in range(0, len(chosen), BATCH):
        some = chosen[start : start + BATCH]
        condition = condition_of(bundle, held_out, some)
        for temperature in TEMPERATURES:
            first, second = (
                sample_images(bundle, condition, len(some), seed + i, temperature) for i in (0, len(held_out))
            )
            apart = 1 - code_agreement(first.indices, second.indices)
            figures.setdefault(f"disagreement_{temperature}", []).append(apart)
            if temperature == TEMPERATURES[0] and config.kind == "low-resolution":
                calm.append(bundle.decode(first).cpu())
        made.append(bundle.decode(first).cpu())
        if config.unconditional:
            guided.append(bundle.decode(sample_images(bundle, condition, len(some), seed, 1.0, GUIDANCE)).cpu())
            free = sample_unconditional(bundle, len(some), seed + start).cpu()
            figures.setdefault("free_flat", []).append(is_single_color(free).float())
        if config.kind == "low-resolution":
            seen.append(bundle.condition_vqgan.decode_indices(condition.indices).cpu())
    pictures = torch.cat(made)
    if config.kind == "edges":
        drawn = edges_of(pictures, views.config)
        figures["edge_f1"] = [edge_agreement(drawn, lines)]
        others = lines.roll(len(lines) // 2, 0)  # far away: variants of one drawing lie side by side
        figures["edge_f1_shuffled"] = [edge_agreement(drawn, others)]
    if config.unconditional and config.kind == "edges":
        figures["edge_f1_guided"] = [edge_agreement(edges_of(torch.cat(guided), views.config), lines)]
    if config.kind == "low-resolution":
        small = made_small(originals, config.factor)
        bicubic = enlarge(small, originals.shape[-2:])
        calmly = torch.cat(calm)
        shown = {"": calmly, "_agreed": agree(calmly, small), "_bicubic": bicubic, "_condition": torch.cat(seen)}
        for suffix, images in shown.items():
            figures |= {f"psnr{suffix}": [psnr(images, originals)], f"ssim{suffix}": [ssim(images, originals)]}
    return {name: torch.cat(values).mean().item() for name, values in figures.items()}


def edges_of(pictures: Tensor, config: DataConfig) -> Tensor:
    """Edges of samples [B, 3, H, W], taken as those of plain views are."""
    low, blur = sum(config.edge_low) / 2, sum(config.edge_blur) / 2
    return canny(pictures, EdgeSettings(low=low, high=2 * low, blur=blur))


def sample_images(
    bundle: Bundle, condition: Condition, number: int, seed: int, temperature: float, guidance: float = 1.0
) -> Canvas:
    """One sample of each condition."""
    settings = SamplingSettings(temperature=temperature, guidance_scale=guidance)
    return sample(bundle.prior, condition, bundle.empty_canvas(number), seed, settings).canvas


def sample_unconditional(bundle: Bundle, number: int, seed: int) -> Tensor:
    """Pictures [B, 3, H, W] in -1..1 of a prior that has learned to do without edges."""
    return bundle.decode(sample_images(bundle, bundle.unconditional_condition, number, seed, GRID_TEMPERATURE))


def is_single_color(pictures: Tensor) -> Tensor:
    """Which of the pictures [B, 3, H, W] in -1..1 show an empty ground, [B] bool."""
    return pictures.std((2, 3)).mean(1) < FLAT


def seen_condition(bundle: Bundle, condition: SpatialCondition) -> Tensor:
    """What is left of condition images after quantization, [B, 3, H, W] in -1..1; labels in colors."""
    images = bundle.condition_vqgan.decode_indices(condition.indices)
    if bundle.condition_config.kind == "segmentation":
        return colorize_labels(images.argmax(1), images.shape[1])
    return images.expand(-1, 3, -1, -1)


def cells_of(bundle: Bundle, held_out: CodeDataset, chosen: list[int]) -> Tensor:
    """The codes of held-out drawings, [B, h, w]."""
    side = bundle.prior.config.window
    return held_out.cells[0, chosen].long().view(-1, side, side)


def condition_of(bundle: Bundle, held_out: CodeDataset, chosen: list[int]) -> Condition:
    """What guided held-out drawings."""
    offset, side = bundle.condition_config.offset, bundle.prior.config.window
    codes = held_out.condition[0, chosen].long()
    if codes.shape[1] == 0:
        return StartToken(offset)
    unconditional = bundle.unconditional_condition if bundle.condition_config.unconditional else None
    if bundle.condition_vqgan is None:
        return TokenCondition(codes + offset, unconditional)
    cells = math.isqrt(codes.shape[1])
    codes = codes.view(-1, cells, cells).to(bundle.prior.device)
    return SpatialCondition(codes, (side, side), offset, unconditional)
