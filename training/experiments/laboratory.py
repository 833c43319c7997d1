"""What experiments are made with: pictures split once, their codes, and models trained where they are missing."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from ...core.autoencoders.vqgan import VQGAN
from ...core.autoencoders.vqgan_file import read_vqgan
from ...core.bundle_file import load_prior
from ...core.images.io import to_pil
from ..config.condition import SourceConfig
from ..config.runs import (
    DataConfig,
    DVAELossConfig,
    LoopConfig,
    Optimizer,
    PriorModelConfig,
    PriorRun,
    StageConfig,
    VQGANLossConfig,
    VQGANRun,
)  # fmt: skip
from ..data.codes import CodeDataset, cached_codes
from ..data.conditions.sources import source_of_split
from ..data.folder import ImageViews, load_split
from ..data.stream import endless, once
from ..engine.distributed import rank_and_world
from ..engine.loop import make_accelerator, train
from ..engine.plots import save_image
from ..stages.prior import PriorTask, load_stages, prefix_of
from ..stages.reconstructions import TrainedStage
from ..stages.vqgan import task_of
from .kept_views import KeptViews
from .scale import Scale

logger = logging.getLogger("tessera")

MAX_KEPT = 20_000  # pictures of which one view is rendered and kept; of more, every epoch has its own


@dataclass(frozen=True)
class Laboratory:
    """Where an experiment works.

    folder: of pictures. output: of all that is trained, which a second call goes on with. vqgan: a bundle guided by
        edges, whose two VQGANs make the codes that priors learn. clip: compares pictures. results: where pictures and
        figures go.
    """

    folder: Path
    output: Path
    scale: Scale
    vqgan: Path
    clip: Path
    results: Path

    def data(self, pixels: int) -> DataConfig:
        """How views are made."""
        return DataConfig(folder=str(self.folder), size=pixels, zoom=(0.85, 1.05), shift=0.05, hue=0.03)

    @cached_property
    def accelerator(self) -> Accelerator:
        """One for all that is trained."""
        return make_accelerator(LoopConfig())

    @cached_property
    def split(self) -> tuple[list[Path], list[Path]]:
        """Pictures to learn from and held-out ones, evenly spaced among all that there are."""
        learned, held_out = load_split(self.data(self.scale.pixels), str(self.output))
        return thinned(learned, self.scale.pictures), thinned(held_out, self.scale.held_out)

    def prior_run(
        self, name: str, model: PriorModelConfig, condition: str, optimizer: Optimizer = "adamw", **loop: float
    ) -> PriorRun:
        """The run of a prior, guided by "edges" or "none"."""
        vqgan = str(self.vqgan) if condition == "edges" else ""
        return PriorRun(
            output=str(self.output / name), data=self.data(self.scale.pixels), vqgan=str(self.vqgan), model=model,
            condition=SourceConfig(kind=condition, vqgan=vqgan), views=self.scale.views, loop=self.loop(**loop),
            optimizer=optimizer,
        )  # fmt: skip

    def loop(self, **changes: float) -> LoopConfig:
        """The loop of a prior."""
        steps = int(changes.get("steps", self.scale.steps))
        changes = {"validate_every": steps, "save_every": max(5, steps // 4), **changes}
        known = {"steps": steps, "batch": self.scale.batch, "warmup": max(1, steps // 20), "ema": 0.99, "log_every": 50}
        return LoopConfig(**{**known, **changes})

    def stages(self, condition: str) -> tuple[VQGAN, VQGAN | None]:
        """The VQGANs that make codes."""
        vqgan, edges = self.vqgans
        return vqgan, edges if condition == "edges" else None

    @cached_property
    def vqgans(self) -> tuple[VQGAN, VQGAN]:
        """Of pictures and of edges."""
        return load_stages(self.prior_run("codes", self.scale.transformer, "edges"), self.accelerator)

    def codes(self, condition: str) -> tuple[CodeDataset, CodeDataset]:
        """Those to learn and those held out, with those of edges or without."""
        if condition == "edges":
            return self.edge_codes
        return tuple(CodeDataset(codes.cells, codes.condition[..., :0]) for codes in self.edge_codes)

    @cached_property
    def edge_codes(self) -> tuple[CodeDataset, CodeDataset]:
        """Of pictures and their edges, encoded once."""
        run = self.prior_run("codes", self.scale.transformer, "edges")
        (self.output / "codes").mkdir(parents=True, exist_ok=True)
        sets = []
        source = source_of_split(run.condition, run.data, *self.split, run.vqgan)
        for paths, views, augment in zip(self.split, (self.scale.views, 1), (True, False), strict=True):
            pictures = ImageViews(paths, run.data, 0, augment, source)
            sets.append(cached_codes(pictures, views, run, *self.vqgans, self.accelerator))
        return tuple(sets)

    def learn_prior(self, run: PriorRun, condition: str, of: tuple | None = None) -> nn.Module:
        """The prior of a run, trained or resumed where it is not at its end; `of` are codes and stages of its own."""
        folder = Path(run.output)
        folder.mkdir(parents=True, exist_ok=True)
        if finished_steps(folder) < run.loop.steps:
            of = of or (*self.codes(condition), *self.stages(condition))
            torch.manual_seed(run.loop.seed)
            self._train(PriorTask(run, *of), of[0], run.loop, folder, 0)
        return load_prior(folder / "prior.safetensors").to(self.accelerator.device)

    def learn_stage(self, name: str, model: StageConfig, loss: VQGANLossConfig, dvae: DVAELossConfig) -> TrainedStage:
        """A first stage of this shape, likewise; all learn the same views."""
        scale = self.scale
        loop = self.loop(steps=scale.stage_steps, batch=scale.stage_batch, learning_rate=scale.stage_rate)
        run = VQGANRun(
            output=str(self.output / name), data=self.data(scale.stage_pixels), model=model, loss=loss, dvae=dvae,
            loop=loop,
        )  # fmt: skip
        folder = Path(run.output)
        folder.mkdir(parents=True, exist_ok=True)
        if finished_steps(folder) < loop.steps:
            torch.manual_seed(0)
            self._train(task_of(run, self.stage_views[1]), self.stage_views[0], loop, folder, 0)
        return read_vqgan(folder / "vqgan.safetensors").to(self.accelerator.device)

    @cached_property
    def stage_views(self) -> tuple[KeptViews, KeptViews] | tuple[ImageViews, ImageViews]:
        """What first stages learn, and plain views of what is held out; of few pictures rendered once."""
        learned, held_out = self.pictures(self.scale.stage_pixels)
        if len(learned) > MAX_KEPT:
            return learned, held_out
        (self.output / "views").mkdir(parents=True, exist_ok=True)
        with self.accelerator.main_process_first():
            return KeptViews(learned, self.output / "views"), KeptViews(held_out, self.output / "views")

    def pictures(self, pixels: int) -> tuple[ImageViews, ImageViews]:
        """Views to learn from, and plain ones of what is held out."""
        learned, held_out = self.split
        return ImageViews(learned, self.data(pixels), 0, True), ImageViews(held_out, self.data(pixels), 0, False)

    def measured_once(self, name: str, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
        """What was measured at the first call with this output, and decides how long others train."""
        path = self.output / f"{name}-seconds.json"
        if not path.is_file() and self.accelerator.is_main_process:
            path.write_text(json.dumps(measure()), encoding="utf-8")
        self.accelerator.wait_for_everyone()
        return json.loads(path.read_text(encoding="utf-8"))

    def show(self, name: str, picture: Tensor) -> None:
        """Keep a picture [3, H, W] in -1..1 beside the figures."""
        if not self.accelerator.is_main_process:
            return
        self.results.mkdir(parents=True, exist_ok=True)
        save_image(to_pil(picture.unsqueeze(0))[0], self.results / f"{name}.jpg")

    def _train(self, task, items, loop: LoopConfig, folder: Path, workers: int) -> None:
        def stream(start: int) -> Iterable:
            return endless(items, loop.seed, loop.batch, start, workers, *rank_and_world())

        logger.info("training %s", folder.name)
        if not train(task, stream, loop, folder, self.accelerator):
            raise KeyboardInterrupt  # saved; the same command goes on
        self.accelerator.wait_for_everyone()
        (folder / "finished").write_text(str(loop.steps), encoding="utf-8")


def finished_steps(folder: Path) -> int:
    """How many steps a run that came to its end had; 0 for others."""
    path = folder / "finished"
    return int(path.read_text(encoding="utf-8")) if path.is_file() else 0


def thinned(items: list, number: int) -> list:
    """At most so many of them, evenly spaced."""
    number = min(number, len(items))
    return [items[i * len(items) // number] for i in range(number)]


@torch.inference_mode()
def nll_of_each(prior: nn.Module, held_out: CodeDataset, batch: int) -> Tensor:
    """Nats a code of every held-out picture, [N] float64."""
    found = []
    for items in once(held_out, batch, 0, 1):
        cells = items["cells"].to(prior.device)
        logits = prior(prefix_of(items, prior.codebook_size).to(prior.device), cells)
        losses = F.cross_entropy(logits.float().transpose(1, 2), cells, reduction="none")
        found.append(losses.double().mean(1).cpu())
    return torch.cat(found)


def seconds_a_step(tasks: list[PriorTask], held_out: CodeDataset, batch: int, rounds: int = 6) -> list[float]:
    """Processor seconds of an update of each prior, measured in turn so that a busy machine slows all alike."""
    spent = [[] for _ in tasks]
    some = {name: tensor.long() for name, tensor in held_out[0, 0].items()}
    items = {name: tensor.expand(batch, -1).contiguous() for name, tensor in some.items()}
    for _ in range(rounds + 1):
        for task, seconds in zip(tasks, spent, strict=True):
            began = time.process_time()
            task.loss(items).backward()
            for optimizer in task.optimizers.values():
                optimizer.step()
                optimizer.zero_grad()
            seconds.append(time.process_time() - began)
    return [sorted(seconds[1:])[rounds // 2] for seconds in spent]


def with_seed(run: PriorRun, seed: int) -> PriorRun:
    """The same run, of other first weights and another order of pictures."""
    return replace(run, loop=replace(run.loop, seed=seed))
