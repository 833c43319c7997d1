"""An image file as a tensor."""

from pathlib import Path

from torch import Tensor

from .io import open_image, to_tensor
from .resize import fit_square


def read_image(path: str | Path, *, square: int | None = None) -> Tensor:
    """An image file -> [1, 3, H, W] in -1..1.

    Args:
        square: crop the middle and scale it to this many pixels a side; None keeps the image as it is.
    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is no image.
    """
    image = to_tensor(open_image(path))
    return image if square is None else fit_square(image, square)
