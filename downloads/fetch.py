"""Fetch the files of a published model, and look whether they are what the catalogue says."""

from collections.abc import Callable
from pathlib import Path

from ..core.clip.clip_file import released_config
from ..core.inspection import ModelInfo, inspect_model
from .catalogue import Published, PublishedFile, differences
from .download import OnBytes, download

OnFile = Callable[[PublishedFile], OnBytes]  # a file begins -> what is told its bytes


def fetch_model(published: Published, folder: Path, on_file: OnFile) -> Path:
    """Fetch what is lacking into a folder; its weights.

    Args:
        on_file: called before each file that is fetched; returns what is told its bytes so far, which may raise
    Raises:
        ValueError: it has to be fetched by hand; as `download.download`; or it is another model.
    """
    lacking = [file.name for file in published.files if not file.addresses and not (folder / file.name).is_file()]
    if lacking:
        raise ValueError(
            f"{published.name} can't be fetched by itself; open {published.page} and save {' and '.join(lacking)} "
            f"in {folder}"
        )
    for file in published.files:
        if not (folder / file.name).is_file():
            download(file, folder / file.name, on_file(file))
    weights = folder / published.files[0].name
    if different := differences(published, _look_into(published, weights)):
        raise ValueError(f"{weights} is another model than expected: {', '.join(different)}; remove it")
    return weights


def _look_into(published: Published, weights: Path) -> ModelInfo:
    """What a fetched file holds."""
    if published.kind == "clip":
        return ModelInfo("clip", "CLIP", {"clip": released_config(weights)}, {})
    return inspect_model(weights)
