"""Where pictures lie."""

from pathlib import Path

from ..config.runs import DataConfig


def path_below(path: Path, config: DataConfig) -> Path:
    """The path of a picture below the folder: the same wherever the folder lies."""
    return path.relative_to(config.folder) if path.is_relative_to(config.folder) else Path(path.name)
