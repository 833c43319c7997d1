"""FSDP2: weights, gradients, moments and averages dealt out to all processes, for priors above a device's memory."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from accelerate import Accelerator
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from ...core.priors.transformer import Transformer
from .distributed import rank_and_world, whole
from .ema import MovingAverage
from .task import Task

POLICIES = {"no": MixedPrecisionPolicy(), "bf16": MixedPrecisionPolicy(torch.bfloat16, torch.float32)}


def deal_out(task: Task, accelerator: Accelerator) -> None:
    """Prepare a task: every process keeps its part of each weight, and gathers a block when it is its turn.

    Raises:
        ValueError: it does not learn a transformer alone.
    """
    model, optimizer = task.modules["model"], task.optimizers["model"]
    if not isinstance(model, Transformer) or len(task.modules) > 1:
        raise ValueError("loop.sharded is true, which is for priors of kind transformer; leave it out")
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    accelerator.prepare_model(model, evaluation_mode=True)  # the device and autocast, without DDP
    task.averaged.module.to(accelerator.device)
    if dist.is_initialized():
        mesh = init_device_mesh(accelerator.device.type, (dist.get_world_size(),))
        for part in (model, task.averaged.module):
            for block in part.blocks:
                fully_shard(block, mesh=mesh, mp_policy=POLICIES[accelerator.mixed_precision])
            fully_shard(part, mesh=mesh, mp_policy=POLICIES[accelerator.mixed_precision])
    dealt = dict(model.named_parameters())
    for group in optimizer.param_groups:
        group["params"] = [dealt[names[id(parameter)]] for parameter in group["params"]]
    task.optimizers["model"] = accelerator.prepare(optimizer)


@contextmanager
def whole_average(averaged: MovingAverage) -> Iterator[None]:
    """The averaged weights as a model of its own on every process meanwhile, to measure, paint and export with."""
    dealt = averaged.module
    weights = {name: whole(tensor) for name, tensor in dealt.state_dict().items()}
    averaged.module = Transformer(dealt.config).to(dealt.pos_emb.device).requires_grad_(False).eval()
    averaged.module.load_state_dict(weights)
    try:
        yield
    finally:
        averaged.module = dealt


def parts_of(task: Task) -> dict[str, Any]:
    """All tensors of a task that are dealt out, as a checkpoint of any number of processes holds them."""
    model, optimizer = task.modules["model"], task.optimizers["model"]
    return {
        "model": get_model_state_dict(model),
        "optimizer": get_optimizer_state_dict(model, getattr(optimizer, "optimizer", optimizer)),
        "averaged": get_model_state_dict(task.averaged.module),
    }


def save_parts(task: Task, state: Path, step: int) -> str:
    """Write them beside the state file, each process its own; the name of the folder. Those that no state file names
    any more are removed.

    Raises:
        OSError: one of them could not; on all.
    """
    folder = state.with_name(f"{state.stem}-{step:08d}.parts")
    try:
        dcp.save(parts_of(task), checkpoint_id=folder, no_dist=not dist.is_initialized())
    except CheckpointException as error:
        raise OSError(" ".join(str(error).split())[:300]) from error
    if rank_and_world()[0] == 0:
        named = {torch.load(path, weights_only=True).get("parts") for path in state.parent.glob(f"{state.stem}*.pt")}
        for other in state.parent.glob(f"{state.stem}-*.parts"):
            if other.name not in named | {folder.name}:
                shutil.rmtree(other)
    return folder.name


def load_parts(task: Task, folder: Path) -> None:
    """Put them back, whatever number of processes wrote them."""
    parts = parts_of(task)
    dcp.load(parts, checkpoint_id=folder, no_dist=not dist.is_initialized())
    model, optimizer = task.modules["model"], task.optimizers["model"]
    set_model_state_dict(model, parts["model"])
    set_optimizer_state_dict(model, getattr(optimizer, "optimizer", optimizer), parts["optimizer"])
    set_model_state_dict(task.averaged.module, parts["averaged"])
