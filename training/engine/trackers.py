"""Programs that show runs while they last, by way of accelerate: tensorboard, wandb, trackio."""

import dataclasses
import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from torch import Tensor

from ...core.images.io import to_pil
from ..config.runs import LoopConfig

PROJECT = "tessera"


def check_trackers(names: Sequence[str]) -> None:
    """Raise ValueError for a tracker that is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ValueError(
                f"loop.trackers names {name}, which is not installed here; pip install {name}, or leave it out: all "
                "figures are in the run's CSV files, too"
            )


def open_trackers(loop: LoopConfig, folder: Path, step: int, accelerator: Accelerator) -> list[GeneralTracker]:
    """Begin, or go on with after `step`, what the run in `folder` shows."""
    if not loop.trackers:
        return []
    number = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]  # the same when it is resumed
    accelerator.project_configuration.set_directories(str(folder))
    accelerator.project_configuration.logging_dir = str(folder / "tensorboard")
    accelerator.log_with = list(loop.trackers)
    own = {
        "tensorboard": {"purge_step": step + 1},
        "wandb": {"name": folder.name, "id": number, "resume": "allow", "dir": str(folder)},
        "trackio": {"name": f"{folder.name}-{number}", "resume": "allow"},
    }
    settings = dataclasses.asdict(loop) | {"trackers": ", ".join(loop.trackers)}
    accelerator.init_trackers(PROJECT, settings, own)
    return accelerator.trackers


def show_image(tracker: GeneralTracker, name: str, image: Tensor, step: int) -> None:
    """Show [3, H, W] in -1..1."""
    picture = to_pil(image.unsqueeze(0))[0]
    if tracker.name == "trackio":  # of which accelerate shows numbers only
        import trackio

        tracker.log({name: trackio.Image(picture)}, step=step)
    elif tracker.name == "tensorboard":
        tracker.log_images({name: (image.unsqueeze(0).clamp(-1, 1) + 1) / 2}, step=step)
    else:
        tracker.log_images({name: [picture]}, step=step)
