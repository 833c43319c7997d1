"""The second stage by style, words, colors and lines: a Llama-style prior and the encoder of its sketches.

Every step paints new scenes on the training device, encodes them there and leaves out some of what guides, so that a
prior learns to paint from any of it: no image is seen twice, and nothing is cached.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from ...core.autoencoders.base import FirstStage
from ...core.bundle import Bundle
from ...core.bundle_file import save_bundle, stage_fingerprints
from ...core.conditions.kinds import ConditionConfig
from ...core.conditions.sketch import WORDS, Sketch, SketchConfig, SketchEncoder, sketch_inputs
from ...core.conditions.vocabulary import Vocabulary
from ...core.loading import load_vqgan
from ...core.prefix import Prefix
from ...core.priors.llama import Llama, LlamaConfig
from ...core.priors.transformer import cell_loss, corrupt
from ...core.sampling.loop import sample
from ...core.sampling.settings import SamplingSettings
from ..config.sketch import SketchRun
from ..data.drawings import Caption, learn_vocabulary, load_drawings, read_captions, word_table
from ..data.lines import find_lines, varied_lines
from ..data.scenes import Painter, Scenes, on_white
from ..engine.distributed import synchronized_once
from ..engine.ema import make_ema
from ..engine.loop import make_accelerator, train
from ..engine.plots import image_grid
from ..engine.update import descend, prior_optimizers

PREVIEW_IMAGES = 6
logger = logging.getLogger("tessera")

KEYWORDS = 24  # of a drawing, its name among them
GIVEN = ("nothing", "words", "colors", "lines")  # what a held-out figure gives, each with all before it


class SketchPrior(nn.Module):
    """A prior and the encoder of its sketches, trained together."""

    def __init__(self, prior: LlamaConfig, sketch: SketchConfig):
        super().__init__()
        self.prior, self.encoder = Llama(prior), SketchEncoder(sketch)

    def forward(self, tokens: Tensor, cells: Tensor, lines: Tensor, colors: Tensor) -> Tensor:
        """Logits [B, n, K] of cells [B, n] after prefix tokens [B, P], with lines and colors as `SketchEncoder`'s."""
        control = self.encoder(lines, colors).flatten(1, 2)  # [B, n, N, C]
        return self.prior(Prefix(tokens, per_cell=control), cells)


class SketchTask:
    """Loss, validation and samples; see `engine.task.Task`."""

    def __init__(
        self, run: SketchRun, vqgan: FirstStage, captions: list[Caption], drawings: Tensor, accelerator: Accelerator
    ):
        self.run, self.vqgan, self.captions, self.device = run, vqgan, captions, accelerator.device
        self.use_vocabulary(learn_vocabulary((c for c in captions if not c.held_out), run.least))
        self.held_out = torch.tensor([c.held_out for c in captions])
        self.drawings = drawings.to(self.device)
        self.train_set = torch.where(~self.held_out)[0].to(self.device)
        self.painter = Painter(self.drawings, run.scenes, self.train_set)
        styles, words = len(self.vocabulary.styles), len(self.vocabulary.words)
        model = run.model
        prior = LlamaConfig(
            layers=model.layers,
            width=model.width,
            heads=model.heads,
            hidden=model.hidden,
            codebook_size=vqgan.config.codebook_size,
            prefix_rows=styles + 1 + words + 1,
            prefix_length=1 + WORDS,
            prefix_rotation="identity",
            window=run.data.size // vqgan.config.stride,
            control_layers=tuple(math.ceil(model.layers * third / 3) for third in range(3)),
        )
        module = SketchPrior(prior, SketchConfig(width=model.width, layers=3))
        self.modules: dict[str, nn.Module] = {"model": module}
        matrices, vectors = ([p for p in module.parameters() if (p.ndim > 1) is many] for many in (True, False))
        groups = [{"params": matrices, "weight_decay": run.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizers = prior_optimizers(groups, module.prior.layers, run.optimizer, run.weight_decay)
        self.averaged = make_ema(module, run.loop.ema)
        self.extra_state: dict[str, Tensor] = {}
        self.stages = stage_fingerprints(vqgan, None)
        self.goal = ("lines", -1)

    def step(self, batches: list[dict], step: int, accelerator: Accelerator) -> dict[str, Tensor]:
        """One update on newly painted scenes."""
        model, total = self.modules["model"], 0.0
        for _ in synchronized_once(batches, model):
            with accelerator.autocast():
                loss = self.loss(self.painter.paint(self.run.loop.batch))
            accelerator.backward(loss / len(batches))
            total = total + loss.detach() / len(batches)
        norm, made = descend(model, self.optimizers.values(), total, self.run.loop.clip, accelerator)
        return {"nll": total, "gradient_norm": norm, "made": made}

    def statistics(self) -> dict[str, float]:
        """Nothing more."""
        return {}

    def loss(self, scenes: Scenes) -> Tensor:
        """Mean nats per code of scenes, each guided by some of what it shows (arXiv eq. 10)."""
        batch, given = len(scenes.images), self.run.given
        first = scenes.first.clamp(min=0)
        named = ~self.painter.chance(batch, given.nothing) & (scenes.first >= 0)
        style = named & self.painter.chance(batch, given.style)
        words = named & self.painter.chance(batch, given.words)
        tokens = self.tokens(first, scenes.second, style, words)
        lines = varied_lines(scenes.images, self.painter)
        lines = torch.cat([lines, torch.ones_like(lines)], 1) * chosen(self.painter.chance(batch, given.lines))
        colors = self.some_colors(scenes.images) * chosen(self.painter.chance(batch, given.colors))
        cells = self.encode(scenes.images)
        seen = corrupt(cells, self.run.pkeep, self.vqgan.config.codebook_size)
        return cell_loss(self.modules["model"](tokens, seen, lines, colors), cells)

    def tokens(self, first: Tensor, second: Tensor, style: Tensor, words: Tensor, sure: bool = False) -> Tensor:
        """Prefixes [B, P]: styles and words of drawings `first` [B], where asked for; the name of what is behind them,
        `second` (-1: nothing), is among the words.

        Args:
            style, words: [B] bool, who says them.
            sure: the name and as many keywords as there is room for, in the place of some of them.
        """
        (vocabulary, slots), batch = (self.vocabulary, WORDS), len(first)
        own = self.words[first]  # [B, KEYWORDS]
        order = self.painter.uniform(batch, 0, 1, KEYWORDS)
        order[:, 0] -= torch.where(self.painter.chance(batch, 0.8), 1.0, 0.0) + float(sure)  # mostly the name first
        own = own.gather(1, torch.where(own >= 0, order, 2.0).argsort(1))[:, :slots]
        room = slots if sure else (self.painter.uniform(batch, 1, slots + 1)[:, None]).long()
        own = own.where(torch.arange(slots, device=self.device) < room, -1)
        behind = self.words[second.clamp(min=0), 0].where((second >= 0) & self.painter.chance(batch, 0.7), -1)
        own[:, -1] = torch.where(behind >= 0, behind, own[:, -1])
        nothing = len(vocabulary.words)
        own = torch.where(words[:, None] & (own >= 0), own, nothing).sort(1).values
        styles, first_row = len(vocabulary.styles), self.vqgan.config.codebook_size
        shown = torch.where(style, self.styles[first], styles)[:, None]
        return first_row + torch.cat([shown, styles + 1 + own], 1)

    def some_colors(self, images: Tensor) -> Tensor:
        """Coarse colors [B, 4, h/2, w/2] of images in 0..1, a little off, known in spots, blobs or everywhere."""
        batch, spots = len(images), self.run.data.size // (2 * self.vqgan.config.stride)
        means = F.adaptive_avg_pool2d(images * 2 - 1, spots)
        share = chosen(self.painter.uniform(batch, 0, 1))
        scattered = torch.rand(batch, 1, spots, spots, device=self.device) < share**2
        noise = F.adaptive_avg_pool2d(self.painter.smooth_noise(batch, 1, 3), spots)
        known = torch.where(chosen(self.painter.chance(batch, 0.5)), scattered, noise > share * 2 - 0.5)
        known = (known | chosen(self.painter.chance(batch, 0.25))).float()
        return torch.cat([(means + 0.05 * torch.randn_like(means)) * known, known], 1)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Codes [B, n] of images in 0..1, the very ones that use makes: in float32."""
        with torch.autocast(images.device.type, enabled=False):
            return self.vqgan.encode_indices(images * 2 - 1).flatten(1)

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """Nats per code of held-out drawings, whole and on white, as more and more of `GIVEN` is given."""
        numbers = evenly_spaced(torch.where(self.held_out)[0], self.run.validation).to(self.device)
        totals = torch.zeros(len(GIVEN), device=self.device)
        for part in numbers.split(self.run.loop.batch):
            images = on_white(self.drawings[part])
            cells, lines = self.encode(images), find_lines(images)
            sketch = Sketch(lines=lines, colors=images * 2 - 1)
            whole = sketch_inputs(sketch, *(side // self.vqgan.config.stride for side in images.shape[-2:]))
            for number, _ in enumerate(GIVEN):
                said = torch.full_like(part, number > 0, dtype=torch.bool)
                tokens = self.tokens(part, torch.full_like(part, -1), said, said, sure=True)
                guided = whole[0] * (number > 2), whole[1] * (number > 1)
                totals[number] += cell_loss(self.averaged.module(tokens, cells, *guided), cells) * len(part)
        return dict(zip(GIVEN, (totals / len(numbers)).tolist(), strict=True))

    @torch.inference_mode()
    def preview(self) -> dict[str, Tensor]:
        """A column for each of some held-out drawings: itself, a sample of its style and words, one of all it shows."""
        numbers = evenly_spaced(torch.where(self.held_out)[0], PREVIEW_IMAGES)
        bundle, images = self.bundle(), on_white(self.drawings[numbers.to(self.device)]).cpu() * 2 - 1
        rows = [images]
        for whole in (False, True):
            made = [
                self.sample(bundle, int(number), image, whole) for number, image in zip(numbers, images, strict=True)
            ]
            rows.append(torch.cat(made).cpu())
        return {"samples": image_grid(torch.cat(rows), len(numbers))}

    def sample(self, bundle: Bundle, number: int, image: Tensor, whole: bool) -> Tensor:
        """A picture [1, 3, S, S] of a drawing's style and words; with its lines and colors too if `whole`."""
        words = [word for word in self.words[number].tolist() if word >= 0][:WORDS]
        sketch = Sketch(words=tuple(words), style=int(self.styles[number]))
        if whole:
            sketch = dataclasses.replace(sketch, lines=find_lines(image[None] / 2 + 0.5), colors=image[None])
        condition = bundle.condition(sketch, (bundle.prior.window, bundle.prior.window))
        settings = SamplingSettings(temperature=0.9)
        return bundle.decode(
            sample(bundle.prior, condition, bundle.empty_canvas(1), self.run.loop.seed, settings).canvas
        )

    def adopt(self, bundle: Bundle) -> None:
        """Take a bundle's models, of any size, and its words for one's own; ValueError if it is no bundle of sketches,
        or knows other styles than the drawings have."""
        if not isinstance(bundle.prior, Llama) or not isinstance(bundle.control, SketchEncoder):
            raise ValueError("the bundle is not guided by sketches; give one that `train sketch` made")
        own = self.averaged.module
        own.prior, own.encoder = (part.to(self.device) for part in (bundle.prior, bundle.control))
        assert bundle.vocabulary is not None  # as of all bundles of sketches
        self.use_vocabulary(bundle.vocabulary)

    def use_vocabulary(self, vocabulary: Vocabulary) -> None:
        """Number styles and words of the drawings by a vocabulary."""
        self.vocabulary = vocabulary
        self.words = word_table(self.captions, vocabulary, KEYWORDS).to(self.device)
        self.styles = torch.tensor([vocabulary.style(c.style) for c in self.captions], device=self.device)

    def bundle(self) -> Bundle:
        """The averaged weights with the VQGAN and the words that they were trained with."""
        model: SketchPrior = self.averaged.module
        config = ConditionConfig(kind="sketch", offset=self.vqgan.config.codebook_size)
        return Bundle(self.vqgan, model.prior, config, control=model.encoder, vocabulary=self.vocabulary)

    def export(self, folder: Path) -> Path:
        """The averaged weights as `sketch.safetensors`, a bundle."""
        path = folder / "sketch.safetensors"
        save_bundle(path, self.bundle(), half=True, trained_on=self.run.data.folder)
        return path

    def health(self, report: dict[str, float]) -> str:
        """How much what guides is worth."""
        return f"{report['nll']:.2f} nats a code"


def chosen(values: Tensor) -> Tensor:
    """One value an image, [B], beside images [B, C, H, W]."""
    return values.view(-1, 1, 1, 1)


def evenly_spaced(numbers: Tensor, most: int) -> Tensor:
    """At most this many of the numbers, evenly spaced."""
    return numbers if len(numbers) <= most else numbers[torch.arange(most) * len(numbers) // most]


def open_sketch_task(run: SketchRun, vqgan: FirstStage, accelerator: Accelerator | None = None) -> SketchTask:
    """The task of a run on its folder of drawings; ValueError if the cells of its first stage don't fill them."""
    accelerator = accelerator or make_accelerator(run.loop)
    if run.data.size % vqgan.config.stride:
        raise ValueError(f"data.size {run.data.size} is not a multiple of {vqgan.config.stride}, the stride of vqgan")
    captions = read_captions(run.data.folder)
    cache = Path(run.output) / f"drawings-{run.data.size}.npy"
    drawings = load_drawings(run.data.folder, captions, run.data.size, cache)
    return SketchTask(run, vqgan, captions, drawings, accelerator)


def train_sketch(run: SketchRun) -> bool:
    """Train or resume one prior guided by sketches; True when finished, False when stopped early."""
    accelerator = make_accelerator(run.loop)
    task = open_sketch_task(run, load_vqgan(run.vqgan).to(accelerator.device), accelerator)

    def stream(start: int) -> Any:
        return itertools.repeat({})  # scenes are painted in the step

    return train(task, stream, run.loop, Path(run.output), accelerator)
