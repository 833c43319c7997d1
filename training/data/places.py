"""Where pictures lie, and which files are some."""

from pathlib import Path

from ..config.runs import DataConfig

SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff"}


def path_below(path: Path, config: DataConfig) -> Path:
    """The path of a picture below the folder: the same wherever the folder lies."""
    return Path(*parts_below(path, config))


def parts_below(path: Path, config: DataConfig) -> tuple[str, ...]:
    """The parts of that path; pathlib's own way takes ten times as long."""
    root = Path(config.folder).parts
    return path.parts[len(root) :] if path.parts[: len(root)] == root else (path.name,)
