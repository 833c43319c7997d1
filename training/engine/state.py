"""A run's state on disk, and its best weights."""

import dataclasses
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from ...core.storage.atomic import atomic_write
from .sharding import load_parts
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


@dataclass
class Position:
    """How far a run is. Items are counted, not steps, since another number of processes makes another number of
    items a step; seconds are those of all sessions."""

    step: int = 0
    items: int = 0
    seconds: float = 0.0


def state_path(output: str | Path) -> Path:
    """The file in the folder of a run that it is resumed from."""
    return Path(output) / "state.pt"


def older_state(path: Path) -> Path:
    """Where the state before the last one is kept."""
    path = Path(os.path.realpath(path))
    return path.with_name(f"{path.stem}.older{path.suffix}")


def keep_older(path: Path) -> None:
    """Keep the state at `path` under another name, too, until the next one is there."""
    older, path = older_state(path), os.path.realpath(path)
    older.unlink(missing_ok=True)
    try:
        os.link(path, older)
    except OSError:  # no hard links here
        os.replace(path, older)


def save_state(
    task: Task, best: BestCheckpoint, position: Position, path: Path, accelerator: Accelerator, parts: str = ""
) -> None:
    """Write all that resuming needs; noise and order of the data follow from the seed and the position.

    Args:
        parts: the folder beside it that holds the weights, moments and averages, if they are dealt out.
    Raises:
        OSError: it can't be written; what was there stays.
    """
    state = {
        **dataclasses.asdict(position),
        **({"parts": parts, "averages": int(task.averaged.n_averaged)} if parts else tensors_of(task, accelerator)),
        "extra_state": task.extra_state,
        "stages": task.stages,
        "best": vars(best),
        "scaler": accelerator.scaler.state_dict() if accelerator.scaler else {},
    }
    with atomic_write(path) as partial:
        torch.save(state, partial)
        if path.exists():
            keep_older(path)


def tensors_of(task: Task, accelerator: Accelerator) -> dict[str, Any]:
    """Weights, moments and averages of a task."""
    return {
        "modules": {k: accelerator.unwrap_model(m).state_dict() for k, m in task.modules.items()},
        "optimizers": {k: o.state_dict() for k, o in task.optimizers.items()},
        "averaged": task.averaged.state_dict(),
    }


def load_state(task: Task, best: BestCheckpoint, path: Path, accelerator: Accelerator, items_per_step: int) -> Position:
    """Put back what `save_state` wrote.

    Args:
        items_per_step: by which a state's position is known that was written before items were counted.
    Raises:
        ValueError: the file is broken or belongs to a run with other settings.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        put_back(state, task, best, accelerator)
        if "parts" in state:
            load_parts(task, path.parent / state["parts"])
            task.averaged.n_averaged.fill_(state["averages"])
        else:
            put_tensors_back(state, task, accelerator)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        older = older_state(path)
        before = f", put {older.name}, which is older, in its place" if older.exists() else ""
        raise ValueError(
            f"{path} can't be resumed from ({reason}); if the model's settings changed, choose another output folder"
            f"{before}"
        ) from error
    return Position(state["step"], state.get("items", state["step"] * items_per_step), state.get("seconds", 0.0))


def put_back(state: dict[str, Any], task: Task, best: BestCheckpoint, accelerator: Accelerator) -> None:
    """The contents of a state file into what they came from, but for weights, moments and averages."""
    changed = [name for name, value in state.get("stages", {}).items() if task.stages.get(name, value) != value]
    if changed:
        raise ValueError(f"what was learned are the codes of another {' and '.join(changed)} than this run names")
    other_entries = state.get("extra_state") or state.get("memory", {})  # as it was called once
    for name, tensor in task.extra_state.items():
        tensor.copy_(other_entries[name])
    vars(best).update(state["best"])
    if accelerator.scaler and state["scaler"]:
        accelerator.scaler.load_state_dict(state["scaler"])


def put_tensors_back(state: dict[str, Any], task: Task, accelerator: Accelerator) -> None:
    """What `tensors_of` gave."""
    for name, module in task.modules.items():
        accelerator.unwrap_model(module).load_state_dict(state["modules"][name])
    for name, optimizer in task.optimizers.items():
        saved = state["optimizers"][name]
        for group in saved["param_groups"]:
            group["fused"] = True  # older states are of optimizers that were not
        optimizer.load_state_dict(saved)
    task.averaged.load_state_dict(state["averaged"])
