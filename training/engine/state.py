"""A run's state on disk, and its best weights."""

import math
from pathlib import Path

import torch
from accelerate import Accelerator

from ...core.storage.atomic import atomic_write
from .task import Task

PATIENCE = 3  # validations without a better figure before the log speaks of it


class BestCheckpoint:
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


def state_path(output: str | Path) -> Path:
    """The file in the folder of a run that it is resumed from."""
    return Path(output) / "state.pt"


def save_state(task: Task, best: BestCheckpoint, step: int, path: Path, accelerator: Accelerator) -> None:
    """Write all that resuming needs."""
    if accelerator.is_main_process:
        state = {
            "step": step,
            "modules": {k: accelerator.unwrap_model(m).state_dict() for k, m in task.modules.items()},
            "optimizers": {k: o.state_dict() for k, o in task.optimizers.items()},
            "averaged": task.averaged.state_dict(),
            "extra_state": task.extra_state,
            "best": vars(best),
            "scaler": accelerator.scaler.state_dict() if accelerator.scaler else {},
            "random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        with atomic_write(path) as partial:
            torch.save(state, partial)
    accelerator.wait_for_everyone()


def load_state(task: Task, best: BestCheckpoint, path: Path, accelerator: Accelerator) -> int:
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
        for name, tensor in task.extra_state.items():
            tensor.copy_(state["extra_state"][name])
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
