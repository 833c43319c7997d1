"""What a prior guided by sketches paints, measured: does it keep to style, words, colors and lines?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import trange

from ...core.bundle import Bundle
from ...core.clip.model import ClipModel
from ...core.clip.scoring import embed_images, embed_texts
from ...core.conditions.sketch import WORDS, Emphasis, Sketch, SketchCondition
from ...core.images.metrics import code_agreement, edge_agreement
from ...core.sampling.loop import sample
from ...core.sampling.settings import SamplingSettings
from ..data.drawings import Caption
from ..data.lines import find_lines
from ..data.scenes import on_white
from ..engine.plots import image_grid
from .color_figures import is_named
from .figures import is_single_color
from .sketch import SketchTask, evenly_spaced
from .style_classifier import small, styles_of, train_style_classifier

BATCH = 16  # pictures sampled at a time
SEEDS = 16  # pictures of each of `KNOWN_COLORS`
PLAIN, GUIDED = SamplingSettings(), SamplingSettings(temperature=0.8, guidance_scale=3.0)
STYLE_FIRST = Emphasis(style=3.0)
KNOWN_COLORS = {"strawberry": "red", "frog": "green", "sun": "yellow"}
NAMES = 230  # that a sample's own name is ranked among
BEST = 5
SHEET = 8  # pictures a row


class SketchSampler:
    """Pictures of many sketches at once.

    Args:
        bundle: what paints.
        seed: of the first picture; each other one has the next.
    """

    def __init__(self, bundle: Bundle, seed: int):
        self.bundle, self.seed = bundle, seed

    def condition(self, sketches: list[Sketch]) -> SketchCondition:
        """One condition of all sketches, which ask for the same parts."""
        window = self.bundle.prior.window
        parts = [self.bundle.condition(sketch, (window, window)) for sketch in sketches]
        assert all(isinstance(part, SketchCondition) for part in parts)
        return replace(
            together(parts),
            unconditional=parts[0].unconditional,
            partial=tuple(map(together, zip(*(part.partial for part in parts), strict=True))),
            emphasis=parts[0].emphasis,
        )

    def codes(self, sketches: list[Sketch], settings: SamplingSettings = PLAIN, offset: int = 0) -> Tensor:
        """A sample [B, h, w] of each sketch."""
        made = []
        for start in trange(0, len(sketches), BATCH, desc="samples", disable=None):
            some = sketches[start : start + BATCH]
            canvas = self.bundle.empty_canvas(len(some))
            seed = self.seed + start + offset
            made.append(sample(self.bundle.prior, self.condition(some), canvas, seed, settings).canvas.indices)
        return torch.cat(made)

    def images(self, codes: Tensor) -> Tensor:
        """Codes [B, h, w] as pictures [B, 3, H, W] in -1..1."""
        return torch.cat([self.bundle.vqgan.decode_indices(part).cpu() for part in codes.split(BATCH)])


def together(conditions: Sequence[SketchCondition]) -> SketchCondition:
    """Style, words and control of several conditions, an image each."""
    return SketchCondition(*(torch.cat([getattr(one, name) for one in conditions]) for name in ("tokens", "control")))


def sketch_figures(
    task: SketchTask, bundle: Bundle, captions: list[Caption], number: int, clip: ClipModel | None
) -> tuple[dict[str, float], Tensor]:
    """Figures, and a sheet of pictures painted of nothing above the drawings nearest to them.

    nothing, words, colors, lines: nats per code of held-out drawings, each given with all before it.
    style_obeyed, style_real: share of samples of learned drawings' styles and words, and of held-out drawings, whose
        style a classifier trained on learned drawings names.
    words_obeyed, words_real: with a CLIP, the share of samples, and of the drawings themselves, for which the name is
        among the first five of at most 230.
    strawberry, frog, sun: share of pictures of the word alone that are red, green and yellow.
    color_error: of held-out drawings' colors, mean difference (0..1) of the sample's.
    edge_f1, edge_f1_shuffled: of held-out drawings' lines, how those of samples lie on them, and on those of another
        drawing.
    disagreement: share of cells that differ between two seeds of the same style and words.
    free_flat: share of pictures painted of nothing that have one color only.

    Samples are of temperature 1; those of names that end in _guided have guidance 3 and temperature 0.8, and where they
    end in _emphasized guidance goes three times as far by the style.
    """
    sampler = SketchSampler(bundle, task.run.loop.seed)
    named = (task.words[task.train_set] >= 0).any(1)
    learned = evenly_spaced(task.train_set[named].cpu(), number)
    held_out = evenly_spaced(torch.where(task.held_out)[0], number)
    asked = [sketch_of(task, int(drawing)) for drawing in learned]
    codes = {
        "": sampler.codes(asked),
        "_guided": sampler.codes(asked, GUIDED),
        "_emphasized": sampler.codes([replace(one, emphasis=STYLE_FIRST) for one in asked], GUIDED),
    }
    painted = {suffix: sampler.images(made) for suffix, made in codes.items()}
    free = sampler.images(sampler.codes([Sketch()] * number))
    figures = task.validate()
    figures |= style_figures(task, painted, learned, held_out)
    if clip is not None:
        figures |= word_figures(task, clip, captions, painted, learned)
    figures |= hue_figures(sampler)
    figures |= guided_figures(sampler, on_white(task.drawings[held_out]).cpu())
    figures["disagreement"] = (1 - code_agreement(codes[""], sampler.codes(asked, offset=number))).mean().item()
    figures["free_flat"] = is_single_color(free).float().mean().item()
    return figures, image_grid(torch.cat([free, nearest_drawings(task, free)]), SHEET)


def sketch_of(task: SketchTask, drawing: int) -> Sketch:
    """Style and words of a drawing."""
    words = [word for word in task.words[drawing].tolist() if word >= 0][:WORDS]
    return Sketch(words=tuple(words), style=int(task.styles[drawing]))


def style_figures(task: SketchTask, painted: dict[str, Tensor], learned: Tensor, held_out: Tensor) -> dict[str, float]:
    """`style_obeyed` of each of `painted`, and `style_real`."""
    rows = task.train_set.cpu()
    real = torch.cat([as_bytes(small(on_white(task.drawings[part]))) for part in rows.split(BATCH)])  # [N, 3, s, s]
    styles = task.styles.cpu()
    model = train_style_classifier(real, styles[rows], task.run.loop.seed)
    shares = {}
    for name, images, own in (
        *((f"style_obeyed{suffix}", (images + 1) / 2, learned) for suffix, images in painted.items()),
        ("style_real", on_white(task.drawings[held_out]).cpu(), held_out),
    ):
        shares[name] = (styles_of(model, images) == styles[own]).float().mean().item()
    return shares


def as_bytes(images: Tensor) -> Tensor:
    """Images in 0..1 in 0..255, a quarter of the memory."""
    return (images * 255).round().byte().cpu()


def word_figures(
    task: SketchTask, clip: ClipModel, captions: list[Caption], painted: dict[str, Tensor], learned: Tensor
) -> dict[str, float]:
    """`words_obeyed` of each of `painted`, and `words_real`."""
    own = [captions[int(drawing)].name for drawing in learned]
    others = [caption.name for caption in captions if caption.name and not caption.held_out]
    names = list(dict.fromkeys(filter(None, own)))
    names += [name for name in dict.fromkeys(others) if name not in set(names)][: max(0, NAMES - len(names))]
    names = names[:NAMES]
    named = torch.tensor([name in names for name in own])
    places = torch.tensor([names.index(name) for name in own if name in names])
    texts = embed_texts(clip, names)
    shares = {}
    shown = {f"words_obeyed{suffix}": (images + 1) / 2 for suffix, images in painted.items()}
    for key, images in (shown | {"words_real": on_white(task.drawings[learned]).cpu()}).items():
        best = (embed_images(clip.clip, images[named]) @ texts.t()).topk(min(BEST, len(names)), 1).indices.cpu()
        shares[key] = (best == places[:, None]).any(1).float().mean().item()
    return shares


def hue_figures(sampler: SketchSampler) -> dict[str, float]:
    """For each of `KNOWN_COLORS` that the vocabulary has, the share of pictures of it that have its color."""
    assert sampler.bundle.vocabulary is not None
    numbers, shares = sampler.bundle.vocabulary.numbers, {}
    for word, color in KNOWN_COLORS.items():
        for suffix, settings in (("", PLAIN), ("_guided", GUIDED)) if word in numbers else ():
            images = sampler.images(sampler.codes([Sketch(words=(numbers[word],))] * SEEDS, settings))
            shares[word + suffix] = is_named(images, color).float().mean().item()
    return shares


def guided_figures(sampler: SketchSampler, images: Tensor) -> dict[str, float]:
    """`color_error` and those of lines, of samples by colors or lines alone of images [B, 3, H, W] in 0..1."""
    lines, spots = find_lines(images), -(-sampler.bundle.prior.window // 2)
    by_color = sampler.images(sampler.codes([Sketch(colors=image[None] * 2 - 1) for image in images]))
    wanted, found = (F.adaptive_avg_pool2d(some, spots) for some in (images, (by_color + 1) / 2))
    figures = {"color_error": (wanted - found).abs().mean().item()}
    by_lines = [Sketch(lines=one[None]) for one in lines]
    for name, settings in (("edge_f1", PLAIN), ("edge_f1_guided", GUIDED)):
        drawn = find_lines((sampler.images(sampler.codes(by_lines, settings)) + 1) / 2)
        figures[name] = edge_agreement(drawn * 2 - 1, lines * 2 - 1).mean().item()
        if name == "edge_f1":
            others = lines.roll(max(1, len(lines) // 2), 0)
            figures["edge_f1_shuffled"] = edge_agreement(drawn * 2 - 1, others * 2 - 1).mean().item()
    return figures


def nearest_drawings(task: SketchTask, pictures: Tensor) -> Tensor:
    """For each picture [B, 3, H, W] in -1..1 the learned drawing nearest to it in pixels, on white."""
    rows = task.train_set.cpu()
    small_pictures = small((pictures + 1) / 2).flatten(1)
    distances = torch.cat(
        [
            torch.cdist(small_pictures, small(on_white(task.drawings[part])).cpu().flatten(1))
            for part in rows.split(256)
        ],
        1,
    )  # [B, N]
    return on_white(task.drawings[rows[distances.argmin(1)]]).cpu() * 2 - 1
