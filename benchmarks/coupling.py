"""How many cells change when the temperature does, while the seed stays."""

import itertools
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..core.bundle import Bundle
from ..core.canvas.canvas import Canvas
from ..core.conditions.base import Condition
from ..core.conditions.edges import canny
from ..core.conditions.sketch import Sketch
from ..core.geometry import Window
from ..core.images.io import open_image, to_pil, to_tensor
from ..core.images.resize import fit_square
from ..core.images.sheet import contact_sheet
from ..core.loading import load
from ..core.prefix import Prefix
from ..core.sampling.logits import draw, warp
from ..core.sampling.loop import sample
from ..core.sampling.noise import cell_keys, gumbel
from ..core.sampling.settings import SamplingSettings
from .report import Report

ABOUT = """\
The embedded model, lines and colors of the two example pictures, the share of cells in percent whose code changes
when the temperature does and the seed stays. *One cell*: the codes before it stay the same, so that nothing can be
less than the total variation between the two distributions. *Whole picture*: drawn from the first cell on, so that
changes feed on themselves. *Gumbel* is the draw of this repository, a number for each cell and code; *sorted* the
usual alternative, one uniform number for each cell, looked up in the cumulative distribution, likeliest codes first."""

EXAMPLES = (("photograph.jpg", "photograph.jpg"), ("drawing.png", "blobs.png"))  # of lines, and of colors
ROOT = Path(__file__).parent.parent
CELL_PAIRS = ((0.8, 0.85), (1.0, 1.05), (1.0, 0.8))
PICTURE_PAIRS = ((0.8, 0.82), (0.8, 0.85), (1.0, 1.05), (1.0, 0.8), (0.5, 0.6))
PLAIN = SamplingSettings()
Draw = Callable[[Tensor, int], Tensor]  # warped logits [B, K] of a cell of this number -> codes [B]


def draw_sorted(logits: Tensor, uniform: Tensor) -> Tensor:
    """The code at height `uniform` [B] of the cumulative distribution of logits [B, K], likeliest first."""
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    cumulative = ordered.softmax(-1).cumsum(-1)
    place = torch.searchsorted(cumulative, uniform.unsqueeze(-1) * cumulative[..., -1:], right=True)
    return order.gather(-1, place.clamp(max=logits.shape[-1] - 1)).squeeze(-1)


def embedded_conditions() -> tuple[Bundle, list[Condition]]:
    """The embedded model and sketches of the example pictures."""
    bundle = load(ROOT / "models" / "emoji-sketch.safetensors")
    return bundle, [bundle.condition(sketch) for sketch in example_sketches(bundle)]


def example_sketches(bundle: Bundle) -> list[Sketch]:
    """Lines and colors of the example pictures, one window large."""
    pairs = [[example_image(name, bundle.image_size) for name in names] for names in EXAMPLES]
    return [Sketch(lines=canny(lines) / 2 + 0.5, colors=colors) for lines, colors in pairs]


def example_image(name: str, side: int) -> Tensor:
    """The middle of an example picture, [1, 3, side, side]."""
    return fit_square(to_tensor(open_image(ROOT / "assets" / name)), side)


@torch.inference_mode()
def cell_changes(bundle: Bundle, conditions: list[Condition], images: int, draws: int) -> dict[str, float]:
    """Percent of cells that change, each after codes that stay, beside the least possible."""
    prior, logits = bundle.prior, []
    for condition in conditions:
        codes = sample(prior, condition, bundle.empty_canvas(images), 0, PLAIN).indices.flatten(1)
        prefix = Prefix.of(condition.prefix(Window(0, 0, prior.window, prior.window)))
        logits.append(prior.start(prefix, codes[:, :-1], codes.shape[1])[0].flatten(0, 1))
    logits, found = torch.cat(logits), {}  # [cells, K]
    for first, second in CELL_PAIRS:
        pair = [warp(logits, PLAIN, temperature) for temperature in (first, second)]
        changed = {"Gumbel": 0.0, "sorted": 0.0}
        for seed in range(draws):
            noise = gumbel(cell_keys(seed, 1, 1, len(logits))[:, 0, 0], logits.shape[1])
            uniform = torch.rand(len(logits), generator=torch.Generator().manual_seed(seed))
            changed["Gumbel"] += differing(*(draw(warped, noise) for warped in pair)) / draws
            changed["sorted"] += differing(*(draw_sorted(warped, uniform) for warped in pair)) / draws
        one, other = (warped.softmax(1) for warped in pair)
        changed["least possible"] = float(50 * (one - other).abs().sum(1).mean())
        found |= {f"one cell, {first:g} to {second:g}, {name}, %": value for name, value in changed.items()}
    return found


@torch.inference_mode()
def paint(bundle: Bundle, condition: Condition, temperature: float, images: int, draw_cell: Draw) -> Tensor:
    """One window's codes [B, cells], one after the other, drawn as is asked for."""
    prior, drawn = bundle.prior, []
    prefix, decoder = Prefix.of(condition.prefix(Window(0, 0, prior.window, prior.window))), prior.decoder()
    logits, cache = prior.start(prefix, torch.zeros(images, 0, dtype=torch.long), 1, prior.window**2)
    for place in range(prior.window**2):
        if drawn:
            logits = decoder(drawn[-1].unsqueeze(1), cache)
        drawn.append(draw_cell(warp(logits[:, 0], PLAIN, temperature), place))
    return torch.stack(drawn, 1)


def picture_changes(bundle: Bundle, conditions: list[Condition], images: int) -> dict[str, float]:
    """Percent of cells that differ between whole pictures of one seed at two temperatures."""
    cells = bundle.prior.window**2
    keys = cell_keys(0, images, 1, cells)[:, :, 0]
    uniforms = torch.rand(images, cells, generator=torch.Generator().manual_seed(0))
    ways: dict[str, Draw] = {
        "Gumbel": lambda warped, place: draw(warped, gumbel(keys[:, :, place], warped.shape[1])),
        "sorted": lambda warped, place: draw_sorted(warped, uniforms[:, place]),
    }
    temperatures, painted = sorted(set(itertools.chain(*PICTURE_PAIRS))), {}
    for (name, way), temperature in itertools.product(ways.items(), temperatures):
        every = [paint(bundle, condition, temperature, images, way) for condition in conditions]
        painted[name, temperature] = torch.cat(every)
    return {
        f"whole picture, {first:g} to {second:g}, {name}, %": differing(painted[name, first], painted[name, second])
        for first, second in PICTURE_PAIRS
        for name in ways
    }


TEMPERATURES = (0.8, 0.85, 0.9, 0.95, 1.0)


def write_pictures(folder: str | Path, seed: int = 1) -> None:
    """The two pictures of docs/sampling.md: the drawing and one seed at five temperatures, with either draw."""
    bundle, (_, condition) = embedded_conditions()
    side, cells = bundle.prior.window, bundle.prior.window**2
    keys = cell_keys(seed, 1, side, side).flatten(2)
    uniforms = torch.rand(1, cells, generator=torch.Generator().manual_seed(seed))
    ways: dict[str, Draw] = {
        "gumbel": lambda warped, place: draw(warped, gumbel(keys[:, :, place], warped.shape[1])),
        "uniform": lambda warped, place: draw_sorted(warped, uniforms[:, place]),
    }
    labels = [f"temperature {temperature:g}" for temperature in TEMPERATURES]
    for name, way in ways.items():
        painted = [paint(bundle, condition, temperature, 1, way).view(1, side, side) for temperature in TEMPERATURES]
        images = to_pil(torch.cat([bundle.decode(Canvas.filled(codes)) for codes in painted]))
        rows = [contact_sheet([(label, [image])], 160) for label, image in zip(labels, images, strict=True)]
        sheet = Image.new("RGB", (sum(row.width for row in rows), rows[0].height))
        for number, row in enumerate(rows):
            sheet.paste(row, (number * row.width, 0))
        sheet.save(Path(folder) / f"temperatures-{name}.jpg", quality=92)


def differing(one: Tensor, other: Tensor) -> float:
    """Percent of entries that differ."""
    return float(100 * (one != other).float().mean())


def measure(quick: bool) -> Report:
    """Percent of changed cells for pairs of temperatures."""
    bundle, conditions = embedded_conditions()
    images, draws = (1, 1) if quick else (4, 12)
    found = cell_changes(bundle, conditions, images, draws)
    if not quick:
        found |= picture_changes(bundle, conditions, 3)
    return Report("coupling", ABOUT, found, {})
