"""Cached code files: the second stage reads codes, so every view is encoded once (section 3.2)."""

import dataclasses
import hashlib
import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ...core.autoencoders.vqgan import VQGAN
from ...core.provenance import weights_fingerprint
from ...core.storage.fingerprint import fingerprint
from ...core.storage.tensors import load_tensors
from ..config.runs import PriorRun
from ..engine.distributed import all_gather, all_reduce, rank_and_world
from .code_file import CodeFile
from .conditions.sources import Source
from .views import Views

logger = logging.getLogger("tessera")


class CodeDataset(Dataset):
    """Codes of pictures in several views: item (epoch, i) is view `epoch mod views` of picture i.

    cells: [views, N, n] int, condition: [views, N, P] int; P is 0 without a condition. unconditional: [views,
    N, n] int, views that are learned without a condition, if there are any. source: what the condition comes from.
    """

    def __init__(
        self,
        cells: Tensor,
        condition: Tensor,
        unconditional: Tensor | None = None,
        source: Source | None = None,
    ):
        self.cells, self.condition, self.unconditional, self.source = cells, condition, unconditional, source

    def __len__(self) -> int:
        return self.cells.shape[1]

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        """`cells` [n], `condition` [P] and, where there are any, `unconditional` [n], int64."""
        epoch, index = key
        codes = {"cells": self.cells, "condition": self.condition, "unconditional": self.unconditional}
        return {n: some[epoch % len(some), index].long() for n, some in codes.items() if some is not None}


def cached_codes(
    views: Views, number: int, run: PriorRun, vqgan: VQGAN, condition_vqgan: VQGAN | None, accelerator: Accelerator
) -> CodeDataset:
    """Codes of `number` views of each picture, from the run's cache file where it was made the same way."""
    fingerprint = describe(views, number, run, vqgan, condition_vqgan)
    path = Path(run.output) / f"codes-{hashlib.sha256(fingerprint.encode()).hexdigest()[:16]}.safetensors"
    main = accelerator.is_main_process
    if not all_reduce(torch.tensor(main and path.exists()).int()):
        if main:
            logger.info("encoding %d views of %d pictures into %s", number, len(views), path.name)
        if not encode_into(path, views, number, run, vqgan, condition_vqgan, fingerprint):
            return CodeDataset(*encode_views(views, number, run, vqgan, condition_vqgan), source=views.source)
    tensors, _ = load_tensors(path, "codes", {"cells", "condition"}, math.inf)  # mapped, not read
    return CodeDataset(tensors["cells"], tensors["condition"], source=views.source)


@torch.inference_mode()
def encode_into(
    path: Path,
    views: Views,
    number: int,
    run: PriorRun,
    vqgan: VQGAN,
    condition_vqgan: VQGAN | None,
    fingerprint: str,
) -> bool:
    """Write the code file, each process its parts of those that are missing; False, alike on all processes, where the
    disk is full or the like: training can do without."""
    rank, world = rank_and_world()
    first = [codes.shape[1] for codes in next(encode(views, [(0, 0)], run, vqgan, condition_vqgan))]
    shapes = dict(zip(("cells", "condition"), ((number, len(views), length) for length in first), strict=True))
    codes = max(model.config.codebook_size for model in (vqgan, condition_vqgan) if model is not None)
    file, problem = (
        CodeFile(path, shapes, codes, {"format": "tessera/1", "kind": "codes", "made_from": fingerprint}),
        None,
    )
    try:
        if rank == 0:
            file.create()
    except OSError as error:
        problem = error
    if not all_reduce(torch.tensor(problem is not None).int()):
        try:
            parts = file.missing(views.parts())[rank::world]
            for part in tqdm(parts, desc="encoding", unit="part", disable=rank > 0 or None):
                keys = [(view, index) for view in range(number) for index in part]
                made = zip(*encode(views, keys, run, vqgan, condition_vqgan), strict=True)
                whole = (torch.cat(some).unflatten(0, (number, len(part))).numpy() for some in made)
                file.write(part, dict(zip(shapes, whole, strict=True)))
        except OSError as error:
            problem = error
    if all_reduce(torch.tensor(problem is not None).int()):
        if problem:
            logger.warning("%s can't be written (%s); the next run encodes the pictures anew", path, problem)
        return False
    if rank == 0:
        file.finish()
    all_reduce(torch.zeros(1))  # wait for it
    return True


def describe(views: Views, number: int, run: PriorRun, vqgan: VQGAN, condition_vqgan: VQGAN | None) -> str:
    """All that decides the codes, as text: a cache made from something else is not used."""
    how = dataclasses.asdict(views.config)
    no_matter = ("folder", "picture", "validation", "max_validation", "variants", "buffer", "workers")
    for name in no_matter:
        del how[name]
    facts = {
        "encoded": "in float32",  # older caches were encoded in the precision of training: not the codes of use
        "data": how,
        "pictures": views.fingerprint(run.output),
        "seed": views.seed,
        "views": number,
        "augment": views.augment,
        "models": [fingerprint(weights_fingerprint(m), m.config) for m in (vqgan, condition_vqgan) if m is not None],
        "condition": [run.condition.kind, run.condition.factor] if condition_vqgan is not None else None,
    }
    if views.source is not None and views.source.made_from:
        facts["guide"] = [run.condition.kind, views.source.made_from]
    return json.dumps(facts, sort_keys=True)


def encode(
    views: Views, keys: list[tuple[int, int]], run: PriorRun, vqgan: VQGAN, condition_vqgan: VQGAN | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Cells [B, n] and condition codes [B, P] of views, batch by batch, int32 on the CPU."""
    device = next(vqgan.parameters()).device
    loader = DataLoader(
        views, run.loop.batch, sampler=keys, num_workers=views.config.workers, generator=torch.Generator()
    )
    for pictures in loader:
        cells = vqgan.encode_indices(pictures["color"].to(device)).flatten(1).int().cpu()
        if views.source is None:
            yield cells, cells[:, :0]
            continue
        told = pictures["condition"].to(device)
        tokens = told if condition_vqgan is None else condition_vqgan.encode_indices(told).flatten(1)
        yield cells, tokens.int().cpu()


@torch.inference_mode()
def encode_views(
    views: Views, number: int, run: PriorRun, vqgan: VQGAN, condition_vqgan: VQGAN | None
) -> tuple[Tensor, Tensor]:
    """Cells [views, N, n] and condition codes [views, N, P], int32, in the memory of every process; each encodes a
    share of every round, so that none waits long for another."""
    order = [(view, index) for view in range(number) for index in range(len(views))]
    share = share_of(order, run.loop.batch, *rank_and_world())
    made = []
    for cells, condition in encode(views, share, run, vqgan, condition_vqgan):
        cells = all_gather(cells)
        made.append((cells, all_gather(condition) if condition.shape[1] else cells[:, :0]))
    return tuple(torch.cat(codes)[: len(order)].unflatten(0, (number, len(views))) for codes in zip(*made, strict=True))


def share_of(keys: list, batch: int, rank: int, world: int) -> list:
    """The keys of process `rank` when of every `batch * world` keys each process takes `batch`, the last ones repeated
    so that all have as many."""
    keys = keys + keys[-1:] * (-len(keys) % (batch * world) if world > 1 else 0)
    return [key for i, key in enumerate(keys) if i // batch % world == rank]
