"""The one training loop: schedule, averaging, logging, saving, resuming. What is learned is a Task."""

import math
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..core.whole_file import whole_file
from .config import LoopConfig
from .log import RunLog, draw_curves

PATIENCE = 3  # validations without a better figure before the log speaks of it


class Task(Protocol):
    """One stage's training: its modules, one update, its validation. `modules` and `optimizers` are
    prepared for the device by the loop before the first step."""

    modules: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    averaged: AveragedModel  # of modules["model"]
    memory: dict[str, Tensor]  # what else a resumed run must know, changed in place
    goal: tuple[str, int] | None  # the figure of `validate` that says which weights are best, and 1 if more is better,
    # or -1; None if none does: the last are exported

    def step(self, batches: list[Any], step: int, accelerator: Accelerator) -> dict[str, float]:
        """One update from the micro-batches; returns what to log."""

    def validate(self) -> dict[str, float]:
        """Figures of the averaged weights on held-out data."""

    def preview(self) -> dict[str, Tensor]:
        """Pictures [3, H, W] in -1..1 by name."""

    def health(self, report: dict[str, float]) -> str:
        """One sentence about how the run is doing, in plain words."""

    def export(self, folder: Path) -> Path:
        """Write the averaged weights as a model file."""


def make_accelerator(loop: LoopConfig) -> Accelerator:
    """Device, processes and precision. Buffers are not broadcast: the discriminator is used twice a step."""
    torch.manual_seed(loop.seed)
    random.seed(loop.seed)
    ddp = DistributedDataParallelKwargs(broadcast_buffers=False)
    return Accelerator(mixed_precision=loop.precision, kwargs_handlers=[ddp])


def average_of(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of the weights whose decay grows from 0.1, to forget the start."""

    def average(old: Tensor, new: Tensor, count: Tensor | int) -> Tensor:
        count = float(count)
        return torch.lerp(old, new, 1 - min(decay, (1 + count) / (10 + count)))

    averaged = AveragedModel(model, avg_fn=average)
    averaged.requires_grad_(False).eval()
    return averaged


def learning_rate(step: int, loop: LoopConfig) -> float:
    """Linear warm-up, then a cosine down to `final_learning_rate` of the peak."""
    if step < loop.warmup:
        return loop.learning_rate * (step + 1) / loop.warmup
    done = min(1.0, (step - loop.warmup) / max(1, loop.steps - loop.warmup))
    low = loop.final_learning_rate
    return loop.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done)))


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
    state_path, best = state_of(output), Best(task.goal)
    first = load_state(task, best, state_path, accelerator) if state_path.exists() else 0
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
                save_state(task, best, step, state_path, accelerator)
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


class Best:
    """The best held-out figure so far: its weights are the ones that are exported, the last may have over-fitted.
    Without a goal, the last."""

    def __init__(self, goal: tuple[str, int] | None):
        self.name, self.sign = goal or ("", 0)
        self.figure, self.step, self.worse = -math.inf, 0, 0  # `worse` counts validations since

    def comment(self, figures: dict[str, float], step: int) -> str:
        """Note the figures of a step; what a person should know about them, if anything."""
        if not self.name:
            self.step = step
            return ""
        figure = self.sign * figures[self.name]
        if figure > self.figure:
            self.figure, self.step, self.worse = figure, step, 0
            return ""
        self.worse += 1
        if self.worse < PATIENCE:
            return ""
        return (
            f"  |  {self.name} has been best at step {self.step}, whose weights are kept: stop here, or give it more "
            "pictures, more varied views or a lower learning rate"
        )


class StopRequest:
    """Turns the first Ctrl-C into a request to stop after the step; a second one interrupts at once."""

    def __init__(self):
        self.requested = False

    def __enter__(self):
        self.previous = signal.signal(signal.SIGINT, self.request)
        return self

    def __exit__(self, *exception):
        signal.signal(signal.SIGINT, self.previous)

    def request(self, *_):
        """Note the wish and give Ctrl-C its usual meaning back."""
        self.requested = True
        signal.signal(signal.SIGINT, self.previous)


def state_of(output: str | Path) -> Path:
    """The file in the folder of a run that it is resumed from."""
    return Path(output) / "state.pt"


def save_state(task: Task, best: Best, step: int, path: Path, accelerator: Accelerator) -> None:
    """Write all that resuming needs."""
    if accelerator.is_main_process:
        state = {
            "step": step,
            "modules": {k: accelerator.unwrap_model(m).state_dict() for k, m in task.modules.items()},
            "optimizers": {k: o.state_dict() for k, o in task.optimizers.items()},
            "averaged": task.averaged.state_dict(),
            "memory": task.memory,
            "best": vars(best),
            "scaler": accelerator.scaler.state_dict() if accelerator.scaler else {},
            "random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        with whole_file(path) as partial:
            torch.save(state, partial)
    accelerator.wait_for_everyone()


def load_state(task: Task, best: Best, path: Path, accelerator: Accelerator) -> int:
    """Put back what `save_state` wrote; returns the step.

    Raises:
        ValueError: the file is broken or belongs to a run with other settings.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        for name, module in task.modules.items():
            accelerator.unwrap_model(module).load_state_dict(state["modules"][name])
        for name, optimizer in task.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        task.averaged.load_state_dict(state["averaged"])
        for name, tensor in task.memory.items():
            tensor.copy_(state["memory"][name])
        vars(best).update(state["best"])
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{path} can't be resumed from ({reason}); if the model's settings changed, choose another output folder"
        ) from error
    if accelerator.scaler and state["scaler"]:
        accelerator.scaler.load_state_dict(state["scaler"])
    torch.set_rng_state(state["random"])
    if state["cuda_random"]:
        torch.cuda.set_rng_state_all(state["cuda_random"])
    return state["step"]


def on_any_process(wishes: list[bool], accelerator: Accelerator) -> list[bool]:
    """Each wish, granted on all processes if one has it: they stop and save at the same step."""
    if accelerator.num_processes == 1:
        return wishes
    wanted = torch.tensor(wishes, dtype=torch.float32, device=accelerator.device)
    return (accelerator.reduce(wanted, "sum") > 0).tolist()


def to_device(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Move every tensor of a batch."""
    return {name: tensor.to(device) for name, tensor in batch.items()}


def shown(values: dict[str, float]) -> str:
    """`name value` pairs in four digits."""
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())
