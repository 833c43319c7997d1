"""The one training loop: schedule, averaging, logging, saving, resuming. What is learned is a Task."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor

from ..config.runs import LoopConfig
from . import distributed
from .compiling import check_compiler
from .interrupt import StopRequest
from .log import RunLog
from .plots import draw_curves
from .schedule import learning_rate
from .sharding import deal_out, save_parts, whole_average
from .speed import Speed
from .state import BestCheckpoint, Position, load_state, save_state, state_path
from .task import Task
from .trackers import check_trackers, open_trackers
from .update import SkippedSteps, is_finite

CHECK_EVERY = 10  # steps between looks at whether the loss is finite, each of which waits for the device


def make_accelerator(loop: LoopConfig) -> Accelerator:
    """Device, processes and precision. Buffers are not broadcast: the discriminator is used twice a step. ValueError if
    a tracker or a compiler is lacking."""
    check_trackers(loop.trackers)
    torch.manual_seed(loop.seed)
    ddp = DistributedDataParallelKwargs(broadcast_buffers=False)
    patient = InitProcessGroupKwargs(timeout=distributed.PATIENCE)
    accelerator = Accelerator(mixed_precision=loop.precision, kwargs_handlers=[ddp, patient])
    if loop.compile:
        check_compiler(accelerator.device)
    return accelerator


def train(
    task: Task, stream: Callable[[int], Iterator], loop: LoopConfig, output: Path, accelerator: Accelerator
) -> bool:
    """Run or resume until `loop.steps` or `loop.minutes`; True when it got there, False when stopped by a signal.

    Args:
        task: the stage to train; its modules are moved and wrapped here.
        stream: item position -> batches from there on, without end.
        output: folder of the run; `state.pt` in it is resumed from.
    Raises:
        ValueError: a step does not fit into memory, the loss is not finite for several steps, `state.pt` does not fit
            the run, or what was learned can't be written at the end.
    """
    return Training(task, loop, output, accelerator).run(stream)


class Training:
    """One session of a run."""

    def __init__(self, task: Task, loop: LoopConfig, output: Path, accelerator: Accelerator):
        self.task, self.loop, self.output, self.accelerator = task, loop, output, accelerator
        if loop.compile:
            task.modules["model"].compile()
        if loop.sharded:
            deal_out(task, accelerator)
        else:
            prepare(task, accelerator)
        task.extra_state.update({name: tensor.to(accelerator.device) for name, tensor in task.extra_state.items()})
        self.state, self.best, self.at = state_path(output), BestCheckpoint(task.goal), Position()
        self.items_per_step = loop.batch * loop.accumulate * accelerator.num_processes
        if self.state.exists():
            self.at = load_state(task, self.best, self.state, accelerator, self.items_per_step)
        active = accelerator.is_main_process
        trackers = open_trackers(loop, output, self.at.step, accelerator) if active else []
        self.log = RunLog(output, self.at.step, active, trackers)
        if self.at.step:
            self.log.say(f"resumed at step {self.at.step} of {loop.steps}")
        self.skipped = SkippedSteps(accelerator.device)
        self.saved = self.at.step if self.state.exists() else None  # the step of the state on disk
        self.to_export = False  # weights that could not be written when they were to be
        self.began, self.saved_at = time.monotonic() - self.at.seconds, time.monotonic()
        self.speed = Speed(loop, self.items_per_step, accelerator.device)

    def run(self, stream: Callable[[int], Iterator]) -> bool:
        """All steps until the end or a signal; True at the end."""
        batches, stopping = stream(self.at.items), False
        with StopRequest() as stop:
            try:
                while not self.over() and not stopping:
                    self.step(batches)
                    stopping, late = self.agree(stop)
                    self.validate_and_save(stopping, late)
            except Exception:
                kept = "nothing is saved yet" if self.saved is None else f"{self.state} holds step {self.saved}"
                self.log.say(f"ended by an error after step {self.at.step}; {kept}")
                raise
        self.finish()
        return self.over()

    def over(self) -> bool:
        """Whether all steps are made, or the time is up."""
        loop = self.loop
        return self.at.step >= loop.steps or bool(loop.minutes and self.at.seconds >= 60 * loop.minutes)

    def step(self, batches: Iterator) -> None:
        """One update, and a line in the log where one is due."""
        loop, task = self.loop, self.task
        rate = learning_rate(self.at.step, loop, self.at.seconds)
        for optimizer in task.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("rate", 1)
        with self.speed.working():
            with self.speed.waiting():
                micro_batches = [next(batches) for _ in range(loop.accumulate)]
            micro_batches = [to_device(batch, self.accelerator.device) for batch in micro_batches]
            distributed.seed_noise(loop.seed, self.at.step, self.accelerator.process_index)
            with advice_if_out_of_memory(loop, self.at.step), self.speed.counting():
                report = task.step(micro_batches, self.at.step, self.accelerator)
            task.averaged.update_parameters(self.accelerator.unwrap_model(task.modules["model"]))
            self.skipped.note(report.pop("made"))
        self.at.step += 1
        self.at.items += self.items_per_step
        if self.at.step % loop.log_every == 0:
            self.report(report, rate)

    def report(self, report: dict[str, Tensor], rate: float) -> None:
        """Log a step."""
        with self.speed.working():  # until the device has made the step
            values = read(report)
        values |= self.task.statistics() | {"learning_rate": rate} | self.speed.figures()
        line = f"step {self.at.step}/{self.loop.steps}  {shown(values)}  |  {self.task.health(values)}"
        if skipped := int(self.skipped.total):
            line += f"; {skipped} steps were left out, whose loss was not finite"
        self.log.say(line)
        with self.tolerating_write_errors("the log"):
            self.log.scalars("train", self.at.step, values)

    def agree(self, stop: StopRequest) -> tuple[bool, bool]:
        """Whether to stop and whether saving is due, alike on all processes, as is the time."""
        now, main = time.monotonic(), self.accelerator.is_main_process
        late = now - self.saved_at > self.loop.save_minutes * 60
        wishes = torch.tensor([stop.requested, late, main * (now - self.began)], dtype=torch.float64)
        stopping, late, self.at.seconds = distributed.all_reduce(wishes).tolist()
        return stopping > 0, late > 0

    def validate_and_save(self, stopping: bool, late: bool) -> None:
        """Validate and save where it is time to."""
        step, over = self.at.step, self.over()
        validates, saves = (over or step % n == 0 for n in (self.loop.validate_every, self.loop.save_every))
        saves = saves or late or stopping
        if validates or saves or step % CHECK_EVERY == 0:
            self.skipped.check(step)
        if validates:
            self.validate()
        if saves:
            self.save()

    def validate(self) -> None:
        """Measure, and export the weights if they are the best so far."""
        with self.whole_average():
            self.measure()
        self.accelerator.wait_for_everyone()

    def whole_average(self) -> AbstractContextManager:
        """The averaged weights in one piece meanwhile, where they are dealt out."""
        return whole_average(self.task.averaged) if self.loop.sharded else nullcontext()

    def measure(self) -> None:
        """`validate`, of averaged weights in one piece."""
        step, figures = self.at.step, self.task.validate()
        self.log.say(f"step {step} held out: {shown(figures)}{self.best.comment(figures, step)}")
        self.refuse_if_not_finite()
        if self.accelerator.is_main_process:
            if self.best.step == step:
                self.export()
            with self.tolerating_write_errors("the log"):
                self.log.scalars("validation", step, figures)
                for name, picture in self.task.preview().items():
                    self.log.picture(name, step, picture)

    def export(self) -> None:
        """Write the averaged weights."""
        self.to_export = True
        with self.tolerating_write_errors("the weights"):
            self.task.export(self.output)
            self.to_export = False

    def save(self) -> None:
        """Write the state, and the weights if they could not be written before."""
        self.refuse_if_not_finite()
        main, parts = self.accelerator.is_main_process, ""
        if main and self.to_export and not self.loop.sharded:  # that is for all processes together, at the end
            self.export()
        with self.tolerating_write_errors("the state"):
            if self.loop.sharded:
                parts = save_parts(self.task, self.state, self.at.step)
            if main:
                save_state(self.task, self.best, self.at, self.state, self.accelerator, parts)
                self.saved = self.at.step
        self.saved_at = time.monotonic()
        self.accelerator.wait_for_everyone()

    def refuse_if_not_finite(self) -> None:
        """Raise ValueError rather than write weights that are of no use."""
        modules = (*self.task.modules.values(), self.task.averaged)
        if distributed.all_reduce(torch.tensor([not is_finite(module) for module in modules]).int()).any():
            raise ValueError(
                f"the weights are not finite at step {self.at.step}, and are not saved; lower loop.learning_rate"
            )

    @contextmanager
    def tolerating_write_errors(self, what: str) -> Iterator[None]:
        """A full disk or the like ends no run: what can't be written is told."""
        try:
            yield
        except OSError as error:
            self.log.say(f"{what} of step {self.at.step} can't be written ({error}); the next save tries again")

    def finish(self) -> None:
        """What remains to be written; ValueError if the state, or the weights, could not be."""
        with self.tolerating_write_errors("the log"):
            self.log.close()
        with self.whole_average():
            if self.accelerator.is_main_process and (self.best.step == 0 or self.to_export):
                self.export()  # stopped before the first validation
        if self.accelerator.is_main_process:
            if list(self.output.glob("*.csv")):
                with self.tolerating_write_errors("the curves"):
                    draw_curves(self.output, self.output / "curves.png")
            if self.saved != self.at.step or self.to_export:
                held = "nothing" if self.saved is None else f"step {self.saved}"
                raise ValueError(
                    f"what was learned up to step {self.at.step} could not be written, {self.state} holds {held}; "
                    "make room, or see who may write there, and run the same command to go on"
                )
        if not self.over():
            self.log.say(f"stopped and saved at step {self.at.step}; run the same command to go on")


def prepare(task: Task, accelerator: Accelerator) -> None:
    """Move a task to the device, and wrap it so that processes exchange gradients."""
    for name, module in task.modules.items():
        task.modules[name] = accelerator.prepare(module)
    for name, optimizer in task.optimizers.items():
        task.optimizers[name] = accelerator.prepare(optimizer)
    task.averaged.module.to(accelerator.device)


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
            less = f"set loop.batch={half} and loop.accumulate={twice}, which teaches nearly the same, or {less}"
        raise ValueError(f"step {step + 1} with loop.batch {loop.batch} does not fit into memory; {less}") from error


def to_device(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Move every tensor of a batch."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def read(report: dict[str, Tensor]) -> dict[str, float]:
    """The numbers of a report, in one go."""
    values = torch.stack([value.detach().float() for value in report.values()]).tolist() if report else []
    return dict(zip(report, values, strict=True))


def shown(values: dict[str, float]) -> str:
    """`name value` pairs in four digits."""
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())
