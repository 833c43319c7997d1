"""The one training loop: schedule, averaging, logging, saving, resuming. What is learned is a Task."""

import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor

from ..config.runs import LoopConfig
from .interrupt import StopRequest, on_any_process
from .log import RunLog
from .plots import draw_curves
from .schedule import learning_rate
from .state import BestCheckpoint, load_state, save_state, state_path
from .task import Task


def make_accelerator(loop: LoopConfig) -> Accelerator:
    """Device, processes and precision. Buffers are not broadcast: the discriminator is used twice a step."""
    torch.manual_seed(loop.seed)
    random.seed(loop.seed)
    ddp = DistributedDataParallelKwargs(broadcast_buffers=False)
    return Accelerator(mixed_precision=loop.precision, kwargs_handlers=[ddp])


def train(
    task: Task, stream: Callable[[int], Iterator], loop: LoopConfig, output: Path, accelerator: Accelerator
) -> bool:
    """Run or resume until `loop.steps`; True when it got there, False when stopped by Ctrl-C.

    Args:
        task: the stage to train; its modules are moved and wrapped here.
        stream: item position -> batches from there on, without end.
        output: folder of the run; `state.pt` in it is resumed from.
    Raises:
        ValueError: a step does not fit into memory, or `state.pt` does not fit the run.
    """
    for name, module in task.modules.items():
        task.modules[name] = accelerator.prepare(module)
    for name, optimizer in task.optimizers.items():
        task.optimizers[name] = accelerator.prepare(optimizer)
    task.averaged.to(accelerator.device)
    resume_file, best = state_path(output), BestCheckpoint(task.goal)
    first = load_state(task, best, resume_file, accelerator) if resume_file.exists() else 0
    log = RunLog(output, first, accelerator.is_main_process)
    if first:
        log.say(f"resumed at step {first} of {loop.steps}")
    items_per_step = loop.batch * loop.accumulate * accelerator.num_processes
    batches = stream(first * items_per_step)
    stop = StopRequest()
    saved_at = time.monotonic()
    busy = 0.0  # seconds in steps since the last log line
    step = first
    stopping = False
    with stop:
        while step < loop.steps and not stopping:
            began = time.monotonic()
            rate = learning_rate(step, loop)
            for optimizer in task.optimizers.values():
                for group in optimizer.param_groups:
                    group["lr"] = rate
            micro_batches = [to_device(next(batches), accelerator.device) for _ in range(loop.accumulate)]
            with advice_if_out_of_memory(loop, step):
                report = task.step(micro_batches, step, accelerator)
            task.averaged.update_parameters(accelerator.unwrap_model(task.modules["model"]))
            step += 1
            busy += time.monotonic() - began
            if step % loop.log_every == 0:
                report |= {"learning_rate": rate, "seconds_per_step": busy / loop.log_every}
                busy = 0.0
                log.scalars("train", step, report)
                log.say(f"step {step}/{loop.steps}  {shown(report)}  |  {task.health(report)}")
            if step % loop.validate_every == 0 or step == loop.steps:
                if accelerator.is_main_process:
                    figures = task.validate()
                    log.scalars("validation", step, figures)
                    log.say(f"step {step} held out: {shown(figures)}{best.comment(figures, step)}")
                    if best.step == step:
                        task.export(output)
                    for name, picture in task.preview().items():
                        log.picture(name, step, picture)
                accelerator.wait_for_everyone()
            late = time.monotonic() - saved_at > loop.save_minutes * 60
            stopping, late = on_any_process([stop.requested, late], accelerator)
            if step % loop.save_every == 0 or late or stopping or step == loop.steps:
                save_state(task, best, step, resume_file, accelerator)
                saved_at = time.monotonic()
    log.close()
    if accelerator.is_main_process:
        if best.step == 0:  # stopped before the first validation
            task.export(output)
        if list(output.glob("*.csv")):
            draw_curves(output, output / "curves.png")
    if step < loop.steps:
        log.say(f"stopped and saved at step {step}; run the same command to go on")
    return step >= loop.steps


@contextmanager
def advice_if_out_of_memory(loop: LoopConfig, step: int) -> Iterator[None]:
    """Turn the failure of an allocation, on a GPU or not, into a ValueError that says what to change."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; without a GPU there is only the text
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        less = "choose a smaller model or data.size"
        if loop.batch > 1:
            half, twice = math.ceil(loop.batch / 2), 2 * loop.accumulate
            less = f"set loop.batch={half} and loop.accumulate={twice}, which teaches the same, or {less}"
        raise ValueError(f"step {step + 1} with loop.batch {loop.batch} does not fit into memory; {less}") from error


def to_device(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Move every tensor of a batch."""
    return {name: tensor.to(device) for name, tensor in batch.items()}


def shown(values: dict[str, float]) -> str:
    """`name value` pairs in four digits."""
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())
