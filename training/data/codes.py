"""Cached code files: the second stage reads codes, so every view is encoded once (section 3.2)."""

import dataclasses
import hashlib
import json
import logging
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ...core.autoencoders.vqgan import VQGAN
from ...core.conditions.maps import low_resolution
from ...core.provenance import weights_fingerprint
from ...core.storage.fingerprint import fingerprint
from ...core.storage.tensors import load_tensors, save_tensors
from ..config.runs import PriorConditionConfig, PriorRun
from ..engine.distributed import combined, gathered, rank_and_world
from .folder import ImageViews, path_below
from .index import PictureIndex

logger = logging.getLogger("tessera")


class CodeDataset(Dataset):
    """Codes of pictures in several views: item (epoch, i) is view `epoch mod views` of picture i.

    cells: [views, N, n] int, condition: [views, N, P] int; P is 0 without a condition. unconditional: [views,
    N, n] int, views that are learned without a condition, if there are any.
    """

    def __init__(self, cells: Tensor, condition: Tensor, unconditional: Tensor | None = None):
        self.cells, self.condition, self.unconditional = cells, condition, unconditional

    def __len__(self) -> int:
        return self.cells.shape[1]

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        """`cells` [n], `condition` [P] and, where there are any, `unconditional` [n], int64."""
        epoch, index = key
        codes = {"cells": self.cells, "condition": self.condition, "unconditional": self.unconditional}
        return {n: some[epoch % len(some), index].long() for n, some in codes.items() if some is not None}


def cached_codes(
    views: ImageViews, number: int, run: PriorRun, vqgan: VQGAN, condition_vqgan: VQGAN | None, accelerator: Accelerator
) -> CodeDataset:
    """Codes of `number` views of each picture, from the run's cache file where it was made the same way."""
    fingerprint = describe(views, number, run, vqgan, condition_vqgan)
    path = Path(run.output) / f"codes-{hashlib.sha256(fingerprint.encode()).hexdigest()[:16]}.safetensors"
    main = accelerator.is_main_process
    if combined(torch.tensor(main and path.exists()).int()):
        tensors, _ = load_tensors(path, "codes", {"cells", "condition"})
        return CodeDataset(tensors["cells"], tensors["condition"])
    if main:
        logger.info("encoding %d views of %d pictures into %s", number, len(views), path.name)
    cells, condition = encode_views(views, number, run, vqgan, condition_vqgan, accelerator)
    if main:
        save_codes(path, cells, condition, fingerprint)
    return CodeDataset(cells, condition)


def save_codes(path: Path, cells: Tensor, condition: Tensor, fingerprint: str) -> None:
    """Write the cache; where the disk is full or the like, say so: training can do without."""
    try:
        save_tensors(path, "codes", {"cells": cells, "condition": condition}, {"made_from": fingerprint})
    except OSError as error:
        logger.warning("%s can't be written (%s); the next run encodes the pictures anew", path, error)


def describe(views: ImageViews, number: int, run: PriorRun, vqgan: VQGAN, condition_vqgan: VQGAN | None) -> str:
    """All that decides the codes, as text: a cache made from something else is not used."""
    how = dataclasses.asdict(views.config)
    for name in (
        "folder",
        "picture",
        "validation",
        "max_validation",
        "variants",
        "buffer",
        "workers",
    ):  # these change no view
        del how[name]
    facts = {
        "encoded": "in float32",  # older caches were encoded in the precision of training: not the codes of use
        "data": how,
        "pictures": fingerprint_pictures(views, run.output),
        "seed": views.seed,
        "views": number,
        "augment": views.augment,
        "models": [fingerprint(weights_fingerprint(m), m.config) for m in (vqgan, condition_vqgan) if m is not None],
        "condition": [run.condition.kind, run.condition.factor] if condition_vqgan is not None else None,
    }
    return json.dumps(facts, sort_keys=True)


def fingerprint_pictures(views: ImageViews, output: str) -> str:
    """Of their paths below the folder, in order, and of what is in the files: an edited picture is another one."""
    digest, index = hashlib.sha256(), PictureIndex(output)
    for path in tqdm(views.paths, desc="comparing with the cache", unit="picture", disable=None, leave=False):
        line = f"{path_below(path, views.config).as_posix()} {index.digest(path)}\n"
        digest.update(line.encode(errors="surrogateescape"))
    if rank_and_world()[0] == 0:
        index.save()
    return digest.hexdigest()


def condition_images(views: dict[str, Tensor], condition: PriorConditionConfig) -> Tensor:
    """What guides the prior, of a batch of views: [B, 1 or 3, H, W] in -1..1."""
    if condition.kind == "low-resolution":
        return low_resolution(views["color"], condition.factor)
    return views["edges"]


@torch.inference_mode()
def encode_views(
    views: ImageViews, number: int, run: PriorRun, vqgan: VQGAN, condition_vqgan: VQGAN | None, accelerator: Accelerator
) -> tuple[Tensor, Tensor]:
    """Cells [views, N, n] and condition codes [views, N, P], int32, on every process; each encodes a share of every
    round, so that none waits long for another."""
    order = [(view, index) for view in range(number) for index in range(len(views))]
    share = share_of(order, run.loop.batch, *rank_and_world())
    loader = DataLoader(
        views, run.loop.batch, sampler=share, num_workers=views.config.workers, generator=torch.Generator()
    )
    cells, condition = [], []
    silent = None if accelerator.is_main_process else True
    for pictures in tqdm(loader, desc="encoding", unit="batch", disable=silent):
        cells.append(gathered(vqgan.encode_indices(pictures["color"].to(accelerator.device)).flatten(1).int()))
        if condition_vqgan is None:
            condition.append(cells[-1][:, :0])
        else:
            guides = condition_images(pictures, run.condition).to(accelerator.device)
            condition.append(gathered(condition_vqgan.encode_indices(guides).flatten(1).int()))
    shape = (number, len(views))
    return tuple(torch.cat(codes)[: len(order)].unflatten(0, shape) for codes in (cells, condition))


def share_of(keys: list, batch: int, rank: int, world: int) -> list:
    """The keys of process `rank` when of every `batch * world` keys each process takes `batch`, the last ones repeated
    so that all have as many."""
    keys = keys + keys[-1:] * (-len(keys) % (batch * world) if world > 1 else 0)
    return [key for i, key in enumerate(keys) if i // batch % world == rank]
