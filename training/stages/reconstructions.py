"""How well a first stage gives held-out pictures back, in figures and to look at."""

import math

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ...core.autoencoders.discriminator import PatchDiscriminator
from ...core.autoencoders.discriminator_file import score_realism
from ...core.autoencoders.dvae import DVAE
from ...core.autoencoders.quantizers import codebook_usage
from ...core.autoencoders.two_level import TwoLevel
from ...core.autoencoders.vqgan import VQGAN
from ...core.conditions.maps import colorize_labels
from ...core.images.metrics import edge_agreement, psnr, ssim
from ..data.folder import ImageViews
from ..data.scenes import WholeDrawings
from ..data.stream import once
from ..data.views import input_and_target
from ..engine.distributed import all_reduce, rank_and_world
from ..engine.plots import image_grid
from .color_figures import HUES, cell_color_errors

TrainedStage = VQGAN | TwoLevel | DVAE
PREVIEW_IMAGES = 12
JUDGED, JUDGED_AT_ONCE = 200, 8


@torch.inference_mode()
def evaluate_vqgan(model: TrainedStage, held_out: ImageViews | WholeDrawings, batch: int) -> dict[str, float]:
    """Mean PSNR (dB), its worst, mean SSIM, and codebook usage and perplexity over the held-out pictures; of edges also
    how the lines it draws lie on those given (`edge_f1`), of color pictures how far the mean color of a cell is off,
    0..1, for cells of some hues (`color_reds` ...), of label maps only the share of pixels whose label comes back
    (`labels_right`). Processes that train together take a share each."""
    device, edges = next(model.parameters()).device, held_out.config.picture == "edges"
    labels = held_out.source is not None and held_out.source.labels > 0
    colored = held_out.config.picture == "color"
    counts = torch.zeros(sum(codebook.size for codebook in model.codebooks))
    sums, worst = torch.zeros(4, dtype=torch.float64), torch.tensor(math.inf)
    colors = torch.zeros(len(HUES), 2, dtype=torch.float64)  # how far the cells of each hue are off, and their number
    for views in once(held_out, batch, *rank_and_world()):
        given, wanted = (image.to(device) for image in input_and_target(views, held_out.config.picture))
        out = model(given)
        counts += uses_of(out.levels, model.codebooks).cpu()
        if labels:
            right = (out.image.argmax(1) == wanted.argmax(1)).float().mean((1, 2)).sum().cpu()
            sums[3] += right
            continue
        quality = psnr(wanted, out.image).cpu()
        worst = torch.minimum(worst, quality.min())
        lines = edge_agreement(out.image, given).sum() if edges else torch.zeros(())
        if colored:
            colors += cell_color_errors(wanted, out.image, model.config.stride)
        sums[:3] += torch.stack([quality.sum(), ssim(wanted, out.image).sum().cpu(), lines.cpu()])
    statistics = codebook_usage(all_reduce(counts))
    quality, similarity, lines, right = (all_reduce(sums) / len(held_out)).tolist()
    use = {"usage": statistics.usage, "perplexity": statistics.perplexity}
    if labels:
        return {"labels_right": right} | use
    figures = {
        "psnr": quality,
        "worst_psnr": all_reduce(worst, dist.ReduceOp.MIN).item(),
        "ssim": similarity,
    } | use
    if edges:
        return figures | {"edge_f1": lines}
    if not colored:
        return figures
    off, cells = all_reduce(colors).unbind(1)
    return figures | {f"color_{name}": value for name, value in zip(HUES, (off / cells).tolist(), strict=True)}


@torch.inference_mode()
def realism_of_held_out(
    judge: PatchDiscriminator, model: TrainedStage, held_out: ImageViews | WholeDrawings
) -> tuple[Tensor, Tensor]:
    """What a discriminator says of held-out pictures and of their reconstructions, at most `JUDGED`: [n] each."""
    chosen = [(0, i) for i in evenly_spaced(len(held_out), JUDGED)]
    loader = DataLoader(held_out, JUDGED_AT_ONCE, sampler=chosen, generator=torch.Generator())
    scores = []
    for views in loader:
        given, wanted = (image.to(judge.device) for image in input_and_target(views, held_out.config.picture))
        made = model.to(judge.device)(given).image
        scores.append(torch.stack([score_realism(judge, wanted), score_realism(judge, made)]))
    real, made = torch.cat(scores, 1).cpu()
    return real, made


@torch.inference_mode()
def reconstruction_strip(model: TrainedStage, held_out: ImageViews | WholeDrawings) -> Tensor:
    """Some held-out pictures in the upper row, what the model makes of them below: [3, 2H, N*W]."""
    picture = held_out.config.picture
    given = torch.stack([held_out[0, i][picture] for i in evenly_spaced(len(held_out), PREVIEW_IMAGES)])
    made = model(given.to(next(model.parameters()).device)).image.cpu()
    rows = torch.cat([given, made])
    if held_out.source is not None and held_out.source.labels:
        rows = colorize_labels(rows.argmax(1), rows.shape[1])
    return image_grid(rows, len(given))


def evenly_spaced(length: int, number: int) -> list[int]:
    """`number` indices evenly over 0..length-1 (fewer if there are fewer)."""
    number = min(length, number)
    return [i * length // number for i in range(number)]


def uses_of(levels: tuple[tuple[Tensor, Tensor], ...], codebooks: tuple[nn.Module, ...]) -> Tensor:
    """How often each code was chosen, [K] float; of several codebooks one after the other."""
    pairs = zip(levels, codebooks, strict=True)
    return torch.cat([torch.bincount(indices.flatten(), minlength=book.size) for (_, indices), book in pairs]).float()
