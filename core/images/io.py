"""Pictures in and out: files, tensors, and sizes that fit the stride."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

LARGEST_PICTURE = 64_000_000  # pixels; beyond that a picture is refused before it is unpacked


def read_picture(path: str | Path) -> Image.Image:
    """Open a picture file as RGB or RGBA, turned as its camera says.

    Raises:
        ValueError: not a picture, broken, empty or larger than LARGEST_PICTURE.
        FileNotFoundError: no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give the path of a picture file")
    try:
        with Image.open(path) as picture:
            check_size(path, *picture.size)
            has_alpha = "A" in picture.getbands() or "transparency" in picture.info
            picture = ImageOps.exif_transpose(picture)
            if picture.mode[0] == "I":  # 16-bit gray, as depth maps come; Pillow's own conversion clips at 255
                picture = Image.fromarray((np.asarray(picture) // 257).astype(np.uint8))
            return picture.convert("RGBA" if has_alpha else "RGB")
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large: {error}; scale it down first") from error
    except (UnidentifiedImageError, OSError, SyntaxError, EOFError) as error:
        raise ValueError(f"{path} can't be read as a picture ({error}); use a PNG, JPEG or WebP file") from error


def check_size(name: str | Path, width: int, height: int) -> None:
    """Raise ValueError for a picture without pixels or with more than LARGEST_PICTURE."""
    if width < 1 or height < 1:
        raise ValueError(f"{name} is {width}x{height} pixels; a picture needs at least one pixel")
    if width * height > LARGEST_PICTURE:
        raise ValueError(
            f"{name} is {width}x{height} pixels, more than {LARGEST_PICTURE // 10**6} million; scale it down first"
        )


def to_tensor(picture: Image.Image) -> Tensor:
    """RGB picture -> [1, 3, H, W] float in -1..1; transparency is laid on white."""
    if picture.mode == "RGBA":
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    pixels = torch.from_numpy(np.array(picture.convert("RGB")))  # [H, W, 3] uint8
    return pixels.permute(2, 0, 1).unsqueeze(0).float() / 127.5 - 1


def to_pictures(images: Tensor) -> list[Image.Image]:
    """[B, 1 or 3, H, W] in -1..1, clamped -> RGB pictures."""
    pixels = ((images.float().clamp(-1, 1) + 1) * 127.5).round().byte()
    pixels = pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()  # [B, H, W, 3]
    return [Image.fromarray(p) for p in pixels]


def check_images(images: Tensor, name: str = "the picture") -> None:
    """Raise ValueError unless `images` is a non-empty, finite [B, 1 or 3, H, W] batch."""
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"{name} has shape {tuple(images.shape)}; expected [B, 3, H, W] or [B, 1, H, W]")
    if not images.numel():
        raise ValueError(f"{name} is empty, shape {tuple(images.shape)}; give at least one pixel")
    check_size(name, images.shape[3], images.shape[2])
    if not torch.isfinite(images).all():
        raise ValueError(f"{name} contains NaN or infinite values; check the node or file it comes from")
