"""The second stage: train a prior to predict the codes of pictures (section 3.2, arXiv eq. 9)."""

import dataclasses
import logging
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from ...core.autoencoders.vqgan import VQGAN
from ...core.bundle import Bundle
from ...core.bundle_file import save_bundle, save_prior, stage_fingerprints
from ...core.conditions.kinds import ConditionConfig
from ...core.loading import load_condition_vqgan, load_vqgan
from ...core.priors.llama import Llama
from ...core.priors.transformer import cell_loss, corrupt
from ...core.storage.model_file import check_shapes
from ..config.runs import PriorRun
from ..data.codes import CodeDataset, cached_codes
from ..data.conditions.sources import source_of_split
from ..data.folder import ImageViews, load_split
from ..data.stream import endless, once
from ..data.views import Views
from ..engine.distributed import all_reduce, rank_and_world, synchronized_once
from ..engine.ema import make_ema
from ..engine.lock import locked_folder
from ..engine.loop import make_accelerator, train
from ..engine.state import state_path
from ..engine.update import descend, prior_optimizers
from ..shards.manifest import is_sharded
from ..shards.views import views_of_shards
from .figures import sample_grid
from .prior_models import Codes, LearnedPrior, build_model
from .transfer import starting_weights

logger = logging.getLogger("tessera")

PREVIEW_IMAGES = 8
MAX_CODES = 2**20  # a prior gives each a logit
COUNTED = 2**26  # codes; the frequencies in this many stand for those in all
OWN_NOTHING = ("edges", "layout", "words")  # conditions of nothing that need no token of their own


class PriorTask:
    """Loss, validation and sample grid of the second stage; see `loop.Task`. `start` are weights to go on from."""

    def __init__(
        self,
        run: PriorRun,
        train_set: CodeDataset,
        held_out: CodeDataset,
        vqgan: VQGAN,
        condition_vqgan: VQGAN | None,
        start: dict[str, Tensor] | None = None,
    ):
        self.run, self.held_out, self.vqgan, self.condition_vqgan = run, held_out, vqgan, condition_vqgan
        self.stages = stage_fingerprints(vqgan, condition_vqgan)
        self.source = train_set.source
        cells, prefix_length = train_set.cells.shape[-1], max(1, train_set.condition.shape[-1])
        self.codes = vqgan.config.codebook_size
        rows = self.source.rows if self.source and self.source.rows else 1
        rows = condition_vqgan.config.codebook_size if condition_vqgan else rows
        dropped = run.condition.dropout > 0
        vocabulary = self.codes + rows + (dropped and run.condition.kind not in OWN_NOTHING)
        model = build_model(run.model, Codes(self.codes, vocabulary, prefix_length, math.isqrt(cells)))
        if start is not None:
            shapes = {name: tuple(tensor.shape) for name, tensor in start.items()}
            check_shapes(model, shapes, run.start_from or "the prior")
            model.load_state_dict(start)
        if run.checkpointing:
            model.checkpointing = True
        self.modules: dict[str, nn.Module] = {"model": model}
        groups = model.decay_groups(run.weight_decay)
        blocks = model.layers if isinstance(model, Llama) else model.blocks
        self.optimizers = prior_optimizers(groups, blocks, run.optimizer, run.weight_decay)
        self.averaged = make_ema(model, run.loop.ema)
        self.extra_state: dict[str, Tensor] = {}
        # [1, P], the prefix of free pictures
        self.nothing = self.bundle().unconditional_condition.tokens if dropped else None
        self.goal = ("objective" if dropped else "nll", -1)
        self.baseline = baselines(train_set, held_out, self.codes)

    def step(self, batches: list[dict[str, Tensor]], step: int, accelerator: Accelerator) -> dict[str, Tensor]:
        """One update on a batch of code mosaics."""
        model, total = self.modules["model"], 0.0
        for batch in synchronized_once(batches, model):
            loss = self.loss(batch)
            accelerator.backward(loss / len(batches))
            total = total + loss.detach() / len(batches)
        norm, made = descend(model, self.optimizers.values(), total, self.run.loop.clip, accelerator)
        return {"nll": total, "gradient_norm": norm, "made": made}

    def statistics(self) -> dict[str, float]:
        """Nothing more."""
        return {}

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Mean over a batch (arXiv eq. 9), some of whose pictures, drawn anew each time, are learned as free ones."""
        model, prefix, cells = self.modules["model"], prefix_of(batch, self.codes), batch["cells"]
        parts = [(prefix, cells)]
        if self.nothing is not None:
            drawn = torch.rand(len(cells)) < self.run.condition.dropout  # on the CPU: how many is known without a wait
            given, free = (m.nonzero().flatten().to(cells.device, non_blocking=True) for m in (~drawn, drawn))
            parts = [(prefix[given], cells[given]), (self.nothing.to(cells.device), batch["unconditional"][free])]
            if self.run.loop.sharded:  # all processes go through the blocks equally often
                parts = [tuple(torch.cat([a, b.expand(len(free), -1)]) for a, b in zip(*parts, strict=True))]
        parts = [(prefix, cells) for prefix, cells in parts if len(cells)]
        logits = [model(prefix, corrupt(cells, self.run.pkeep, self.codes)) for prefix, cells in parts]
        return cell_loss(torch.cat(logits), torch.cat([cells for _, cells in parts]))

    def validate(self) -> dict[str, float]:
        """Held-out likelihood of the averaged weights, beside what knowing less would give; `objective` is that of
        pictures with and without their condition in the proportion in which they are learned, `shuffled_nll` that of
        pictures told the condition of another one."""
        nll = held_out_nll(self.averaged.module, self.held_out, self.run.loop.batch)
        report = {
            "nll": nll,
            "unigram": self.baseline.unigram,
            "uniform": self.baseline.uniform,
            "below_unigram": 1 - nll / self.baseline.unigram,
        }
        if self.source is not None:
            others = CodeDataset(self.held_out.cells, self.held_out.condition.roll(len(self.held_out) // 2, 1))
            report["shuffled_nll"] = held_out_nll(self.averaged.module, others, self.run.loop.batch)
        if self.nothing is not None:
            free = held_out_nll(self.averaged.module, self.held_out, self.run.loop.batch, self.nothing)
            report |= {"free_nll": free, "objective": nll + self.run.condition.dropout * (free - nll)}
        return report

    def preview(self) -> dict[str, Tensor]:
        """Held-out drawings: the condition, the reconstruction, and two samples of the averaged weights."""
        return {"samples": sample_grid(self.bundle(), self.held_out, PREVIEW_IMAGES, self.run.loop.seed)}

    def bundle(self) -> Bundle:
        """The averaged prior with the first stages it was trained on."""
        words = self.source.vocabulary if self.source else None
        config = self.condition_config()
        return Bundle(self.vqgan, self.averaged.module, config, self.condition_vqgan, vocabulary=words)

    def condition_config(self) -> ConditionConfig:
        """What guides this prior."""
        condition = self.run.condition
        return ConditionConfig(
            kind=condition.kind,
            offset=self.codes,
            labels=self.source.labels if self.source else 0,
            factor=condition.factor if condition.kind == "low-resolution" else 0,
            unconditional=condition.dropout > 0,
        )

    def health(self, report: dict[str, float]) -> str:
        """How much the prior knows already."""
        gain = 1 - report["nll"] / self.baseline.unigram
        if gain <= 0:
            return "no better than code frequencies yet"
        return f"{gain:.0%} below code frequencies alone"

    def export(self, folder: Path) -> Path:
        """The averaged weights as `prior.safetensors`, and with their first stages as `bundle.safetensors`, which is
        ready for use."""
        path = folder / "prior.safetensors"
        condition, trained_on = self.condition_config(), self.run.data.folder
        words = self.source.vocabulary if self.source else None
        save_prior(path, self.averaged.module, condition, self.stages, words, trained_on=trained_on)
        save_bundle(folder / "bundle.safetensors", self.bundle(), half=True, trained_on=trained_on)
        return path


class Baselines(NamedTuple):
    """Nats per code without a prior: all codes equally likely, or as frequent as in training."""

    uniform: float
    unigram: float


def baselines(train_set: CodeDataset, held_out: CodeDataset, codes: int) -> Baselines:
    """Both on the held-out codes; frequencies with one added to each, so that no code is impossible."""
    counts = torch.bincount(train_set.cells.flatten()[:COUNTED].long(), minlength=codes).double() + 1
    surprise = -(counts / counts.sum()).log()
    return Baselines(math.log(codes), surprise[held_out.cells.flatten().long()].mean().item())


def prefix_of(batch: dict[str, Tensor], codes: int) -> Tensor:
    """The prefix [B, P] of a batch: condition codes in rows after those of the picture codes, or, without
    a condition, the one start token there."""
    condition = batch["condition"]
    if condition.shape[1] == 0:
        return torch.full_like(batch["cells"][:, :1], codes)
    return condition + codes


@torch.inference_mode()
def held_out_nll(prior: LearnedPrior, held_out: CodeDataset, batch: int, prefix: Tensor | None = None) -> float:
    """Mean negative log-likelihood over all held-out cells, nats per code; after `prefix` [1, P], if given, in place
    of their own. Processes that train together take a share each."""
    device, codes = prior.device, prior.codebook_size
    total = torch.zeros((), dtype=torch.float64)
    for items in once(held_out, batch, *rank_and_world()):
        cells = items["cells"].to(device)
        logits = prior((prefix_of(items, codes) if prefix is None else prefix).to(device), cells)
        total += F.cross_entropy(logits.flatten(0, 1).float(), cells.flatten(), reduction="sum").cpu()
    return all_reduce(total).item() / (len(held_out) * held_out.cells.shape[-1])


def load_stages(run: PriorRun, accelerator: Accelerator) -> tuple[VQGAN, VQGAN | None]:
    """The first stages a prior is trained on; ValueError where they don't fit the data."""
    vqgan = load_vqgan(run.vqgan).to(accelerator.device)
    kind = run.condition.kind
    condition = load_condition_vqgan(run.condition.vqgan).to(accelerator.device) if run.condition.vqgan else None
    if kind == "low-resolution" and condition is None:
        condition = vqgan
    for model in (vqgan, condition):
        if model and model.config.codebook_size > MAX_CODES:
            raise ValueError(
                f"the first stage has {model.config.codebook_size} codes, a prior learns up to {MAX_CODES}; choose one "
                "of one grid"
            )
    channels = run.condition.channels
    if vqgan.config.image_channels != 3 or (condition and condition.config.image_channels != channels):
        raise ValueError(
            "vqgan needs a file for colour pictures (3 channels)"
            + (f", condition.vqgan one for {kind} ({channels} channels)" if condition else "")
        )
    for model, name in ((vqgan, "vqgan"), (condition, "condition.vqgan")):
        if model and run.data.size % model.config.stride:
            raise ValueError(
                f"data.size {run.data.size} is not a multiple of {model.config.stride}, the stride of {name}"
            )
    return vqgan, condition


def stage_files(run: PriorRun) -> dict[str, str | Path]:
    """Where a run's first stages are, by the names of `stage_fingerprints`."""
    return {"vqgan": run.vqgan, "condition_vqgan": run.condition.vqgan or run.vqgan}


def load_views(run: PriorRun) -> tuple[Views, Views]:
    """Augmented views of the pictures to learn from, plain ones of those held out, with what guides them."""
    if is_sharded(run.data.folder):
        return views_of_shards(run.data, run.condition, run.loop.seed)
    sides = load_split(run.data, run.output)
    source = source_of_split(run.condition, run.data, *sides, run.vqgan)
    train_set, held_out = (
        ImageViews(side, run.data, run.loop.seed, augment or bool(source and source.crops), source)
        for side, augment in zip(sides, (True, False), strict=True)
    )
    return train_set, held_out


def load_codes(
    run: PriorRun, views: tuple[Views, Views], accelerator: Accelerator, vqgan: VQGAN, condition: VQGAN | None
) -> list[CodeDataset]:
    """Training codes in `run.views` views of each picture, held-out codes in one."""
    train_set, held_out = (
        cached_codes(some, number, run, vqgan, condition, accelerator)
        for some, number in zip(views, (run.views, 1), strict=True)
    )
    if run.condition.dropout:
        whole = dataclasses.replace(run.data, neighbors=0.0, zoom=run.unconditional.zoom, shift=run.unconditional.shift)
        free = views[0].unguided(whole)
        train_set.unconditional = cached_codes(free, run.views, run, vqgan, None, accelerator).cells
    return [train_set, held_out]


def write_names(path: Path, names: tuple[str, ...]) -> None:
    """Which number is which class or category, a line each, and say where it is written."""
    path.write_text("".join(f"{number} {name}\n" for number, name in enumerate(names)), encoding="utf-8")
    logger.info("%d labels, listed with their numbers in %s", len(names), path)


def train_prior(run: PriorRun) -> bool:
    """Train or resume one second stage; True when finished, False when stopped early."""
    accelerator = make_accelerator(run.loop)
    with locked_folder(run.output) as folder:
        return train_prior_in(folder, run, accelerator)


def train_prior_in(folder: Path, run: PriorRun, accelerator: Accelerator) -> bool:
    """`train_prior` where nobody else writes."""
    stages, views = load_stages(run, accelerator), load_views(run)
    if views[0].source is not None and views[0].source.names and accelerator.is_main_process:
        write_names(folder / "labels.txt", views[0].source.names)
    train_set, held_out = load_codes(run, views, accelerator, *stages)
    begins = run.start_from and not state_path(run.output).exists()
    start = starting_weights(run, train_set, views[0], *stages, accelerator) if begins else None
    torch.manual_seed(run.loop.seed)  # the same first weights whatever was done before
    task = PriorTask(run, train_set, held_out, *stages, start)

    def stream(start: int) -> Any:
        return endless(
            train_set, run.loop.seed, run.loop.batch, start, 0, accelerator.process_index, accelerator.num_processes
        )

    return train(task, stream, run.loop, folder, accelerator)
