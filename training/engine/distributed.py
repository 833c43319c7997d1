"""What several processes that train together share."""

import functools
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

MINUTES = float(os.environ.get("TESSERA_PATIENCE", "120"))
PATIENCE = timedelta(minutes=MINUTES)  # how long processes wait for one another before they give up


def rank_and_world() -> tuple[int, int]:
    """The number of this process, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


@functools.cache
def host_group() -> dist.ProcessGroup:
    """The same processes by way of their CPUs: what goes through it waits for no device."""
    if dist.get_backend() == "gloo":  # which goes that way; and torchrun can't restart a run with a second group of it
        return dist.group.WORLD
    return dist.new_group(backend="gloo", timeout=PATIENCE)


def all_reduce(values: Tensor, operation: dist.ReduceOp = dist.ReduceOp.SUM) -> Tensor:
    """The sum, or another `operation`, of a tensor over all processes, on the CPU."""
    values = values.detach().cpu().clone()
    if dist.is_initialized():
        dist.all_reduce(values, operation, group=host_group())
    return values


def all_gather(rows: Tensor) -> Tensor:
    """The rows of all processes, [N, ...] each -> [world * N, ...] on the CPU, in the order of the processes."""
    rows = rows.cpu().contiguous()
    if not dist.is_initialized():
        return rows
    parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows, group=host_group())
    return torch.cat(parts)


def own(tensor: Tensor) -> Tensor:
    """The part that this process has of a tensor that is dealt out; all of any other."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, on every process."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def synchronized_once(batches: Sequence[Any], module: nn.Module) -> Iterator[Any]:
    """The micro-batches of a step; processes exchange the gradients of `module` with the last of them only."""
    for batch in batches[:-1]:
        with getattr(module, "no_sync", nullcontext)():
            yield batch
    yield batches[-1]


@contextmanager
def lost_processes_told() -> Iterator[None]:
    """Turn the failure of an exchange into a ValueError that says what happened and how to go on; so one process that
    ends, or hangs, ends them all."""
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        if not isinstance(error, dist.DistError) and "gloo" not in reason.lower():  # which has no error of its own
            raise
        raise ValueError(
            f"another process of this run has ended, or was not heard of for {MINUTES:g} minutes, and none goes on "
            "alone: see what it said last, then start all of them again with the same command, which goes on from what "
            f"was saved ({reason[:200]})"
        ) from error


def seed_noise(seed: int, step: int, rank: int) -> None:
    """Begin the noise of a step: the same whenever it is made again, another one on every process."""
    digest = hashlib.sha256(f"{seed} {step} {rank}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:7], "little"))
