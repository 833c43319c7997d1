"""What several processes that train together share."""

import functools
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

PATIENCE = timedelta(hours=2)  # how long processes wait for one another before they give up


def rank_and_world() -> tuple[int, int]:
    """The number of this process, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


@functools.cache
def host_group() -> dist.ProcessGroup:
    """The same processes by way of their CPUs: what goes through it waits for no device."""
    return dist.new_group(backend="gloo", timeout=PATIENCE)


def combined(values: Tensor, operation: dist.ReduceOp = dist.ReduceOp.SUM) -> Tensor:
    """The sum, or another `operation`, of a tensor over all processes, on the CPU."""
    values = values.detach().cpu().clone()
    if dist.is_initialized():
        dist.all_reduce(values, operation, group=host_group())
    return values


def gathered(rows: Tensor) -> Tensor:
    """The rows of all processes, [N, ...] each -> [world * N, ...] on the CPU, in the order of the processes."""
    rows = rows.cpu().contiguous()
    if not dist.is_initialized():
        return rows
    parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows, group=host_group())
    return torch.cat(parts)


def synchronized_once(batches: Sequence[Any], module: nn.Module) -> Iterator[Any]:
    """The micro-batches of a step; processes exchange the gradients of `module` with the last of them only."""
    for batch in batches[:-1]:
        with getattr(module, "no_sync", nullcontext)():
            yield batch
    yield batches[-1]


def seed_noise(seed: int, step: int, rank: int) -> None:
    """Begin the noise of a step: the same whenever it is made again, another one on every process."""
    digest = hashlib.sha256(f"{seed} {step} {rank}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:7], "little"))
