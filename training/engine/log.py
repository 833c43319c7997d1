"""What a run writes down: CSV, picture strips, and one health line in plain words."""

import csv
import logging
from collections.abc import Sequence
from pathlib import Path

from accelerate.tracking import GeneralTracker
from torch import Tensor

from ...core.images.io import to_pil
from ...core.storage.atomic import atomic_write
from .trackers import show_image

logger = logging.getLogger("tessera")


class RunLog:
    """Writes `<name>.csv` files and pictures below `folder`, and tells the `trackers`.

    Only the main process should be `active`; the others' calls do nothing.
    """

    def __init__(self, folder: Path, start: int, active: bool, trackers: Sequence[GeneralTracker] = ()):
        self.folder, self.active, self.trackers = folder, active, trackers
        if not active:
            return
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("*.csv"):
            drop_rows_after(path, start)

    def scalars(self, name: str, step: int, values: dict[str, float]) -> None:
        """Append one row to `<name>.csv`; a name not seen before becomes a new column."""
        if not self.active:
            return
        path = self.folder / f"{name}.csv"
        row = {"step": step, **values}
        rows = read_rows(path) if path.exists() else []
        columns = rows[0] if rows else []
        new = [key for key in row if key not in columns]
        if new:
            columns = columns + new
            write_rows(path, [columns, *rows[1:]])
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
        for tracker in self.trackers:
            tracker.log({f"{name}/{key}": value for key, value in values.items()}, step=step)

    def picture(self, name: str, step: int, image: Tensor) -> None:
        """Save [3, H, W] in -1..1 as `pictures/<name>-<step>.png`."""
        if not self.active:
            return
        path = self.folder / "pictures" / f"{name}-{step:07d}.png"
        with atomic_write(path) as partial:
            to_pil(image.unsqueeze(0))[0].save(partial)
        for tracker in self.trackers:
            show_image(tracker, name, image, step)

    def say(self, text: str) -> None:
        """One line for a person."""
        if self.active:
            logger.info(text)

    def close(self) -> None:
        """Let the trackers write what they still hold."""
        for tracker in self.trackers:
            tracker.finish()


def drop_rows_after(path: Path, step: int) -> None:
    """Remove CSV rows beyond `step`: they belong to work lost since the last save."""
    rows = read_rows(path)
    write_rows(path, rows[:1] + [row for row in rows[1:] if row and row[0].isdigit() and int(row[0]) <= step])


def read_rows(path: Path) -> list[list[str]]:
    """Rows of a CSV file, the header first."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def write_rows(path: Path, rows: list[list[str]]) -> None:
    """Write a CSV file."""
    with atomic_write(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def read_csv(path: Path) -> dict[str, list[float]]:
    """Columns of a run's CSV; empty fields are NaN."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {key: [float(row[key] or "nan") for row in rows] for key in (rows[0] if rows else {})}
