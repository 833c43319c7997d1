"""How a training run is doing, from what it wrote: for its node, and for the panel in the page."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path
from typing import Any

from . import comfy
from .runs import Run

STEP = re.compile(r"step (\d+)/(\d+)  .*\|  (.*)")
LOSSES = ("nll", "l1", "bce")  # the first that there is, is shown as a curve
FIGURES = (
    "nll", "l1", "perceptual", "codebook", "perplexity", "usage", "dead_codes", "discriminator", "images_per_second",
    "mfu",
)  # fmt: skip
POINTS = 200  # of a curve
END = 20_000  # bytes of a log that are looked through


def health(run: Run) -> dict[str, Any]:
    """What the panel shows; numbers, texts and the address of a picture."""
    state = "running" if run.running else "ended" if run.begun else "none"
    train, held_out = (_rows(run.folder / f"{name}.csv") for name in ("train", "validation"))
    said = _end_of(run.log)
    last = train[-1] if train else {}
    loss = next((name for name in LOSSES if name in last), None)
    return {
        "state": state,
        "sentence": _sentence(run.name, state, said),
        "figures": {name: last[name] for name in FIGURES if name in last},
        "held_out": {name: value for name, value in (held_out[-1] if held_out else {}).items() if name != "step"},
        "loss": loss,
        "curve": _thinned([(row["step"], row[loss]) for row in train if loss in row]),
        "picture": _newest_picture(run.folder / "pictures"),
    }


def _sentence(name: str, state: str, said: list[str]) -> str:
    if state == "none":
        return f"{name} has not begun; choose train and run the node"
    step = next((found for line in reversed(said) if (found := STEP.match(line))), None)
    where = f"step {step[1]} of {step[2]}" if step else "no step yet"
    if state == "running":
        return f"{name} trains: {where}; {step[3] if step else (said or ['it starts'])[-1]}"
    last = said[-1] if said else "it said nothing"
    return f"{name} does not train: {where}; {last.replace(str(comfy.own_model_folder('')), 'models')}"


def _end_of(path: Path) -> list[str]:
    """The last lines of a log, without what bars wrote over."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - END))
        text = file.read().decode("utf-8", "replace")
    return [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]


def _rows(path: Path) -> list[dict[str, float]]:
    """A run's CSV; of a row that is being written, and of figures that there are none of, nothing."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if None not in row.values()]
    return [
        {name: number for name, value in row.items() if math.isfinite(number := float(value or "nan"))} for row in rows
    ]


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Some hundred points of a curve, the last among them."""
    return points[:: -max(1, len(points) // POINTS)][::-1]


def _newest_picture(folder: Path) -> dict[str, str] | None:
    """How ComfyUI's page is told of a file in the output folder."""
    files = sorted(folder.glob("*.png"), key=lambda path: path.stem.rpartition("-")[2])
    if not files:
        return None
    inside = folder.relative_to(comfy.output_folder()).as_posix()
    return {"filename": files[-1].name, "subfolder": inside, "type": "output"}
