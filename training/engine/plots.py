"""Curves and pictures of a run."""

from pathlib import Path

from PIL import Image
from torch import Tensor

from ...core.images.tiles import tile_images
from ...core.storage.atomic import atomic_write
from .log import read_csv

COLUMNS, ROW = 4, 2.6  # plots side by side; inches that one is high


def image_grid(images: Tensor, columns: int) -> Tensor:
    """[N, C, H, W] -> one picture [3, rows*H, columns*W], row by row, the rest black."""
    return tile_images(images.expand(-1, 3, -1, -1).cpu(), columns)[0]


def draw_curves(folder: Path, path: Path) -> None:
    """Draw every column of the run's CSV files over the step, one small plot each, into one PNG."""
    from matplotlib.figure import Figure  # without pyplot, and windows

    plots = []
    for source in sorted(folder.glob("*.csv")):
        columns = read_csv(source)
        steps = columns.pop("step", [])
        plots += [(f"{source.stem} {name}", steps, values) for name, values in columns.items()]
    if not plots:
        raise ValueError(f"{folder} holds no log to draw; train first")
    rows = -(-len(plots) // COLUMNS)
    height = ROW * rows
    figure = Figure((14, height))
    for number, (title, steps, values) in enumerate(plots, 1):
        axis = figure.add_subplot(rows, COLUMNS, number)
        axis.plot(steps, values, linewidth=1)
        axis.set_title(title, fontsize=9)
        axis.tick_params(labelsize=7)
    # by hand: a layout that matplotlib finds takes longer than all else
    figure.subplots_adjust(0.04, 0.3 / height, 0.99, 1 - 0.3 / height, wspace=0.2, hspace=0.35)
    with atomic_write(path) as partial:
        figure.savefig(partial, dpi=90)


def draw_points(points: dict[str, tuple[float, float]], names: tuple[str, str], path: Path) -> None:
    """A point for each name by two figures, the first on a scale of powers, into one PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for name, (x, y) in points.items():
        axis.plot(x, y, "o")
        axis.annotate(name, (x, y), xytext=(5, 4), textcoords="offset points", fontsize=8)
    axis.set_xscale("log", base=2)
    axis.set_xlabel(names[0])
    axis.set_ylabel(names[1])
    axis.margins(x=0.2)
    with atomic_write(path) as partial:
        figure.savefig(partial, dpi=90, format="png")
    pyplot.close(figure)


def save_image(picture: Image.Image, path: Path) -> None:
    """Write a picture; its suffix is the format."""
    with atomic_write(path) as partial:
        picture.save(partial)
