"""Images in and out: files, tensors, and sizes that fit the stride."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..storage.door import brief, existing_file

NOISE = 50  # levels from pixel to pixel, more than an image has
MAX_PIXELS = 64_000_000  # pixels; beyond that an image is refused before it is unpacked


def open_image(path: str | Path) -> Image.Image:
    """Open an image file; see `unpack_image`.

    Raises:
        ValueError: not an image, broken, empty, larger than MAX_PIXELS, or with numbers that are not finite.
        FileNotFoundError: no such file.
    """
    path = existing_file(path, "a picture file")
    return unpack_image(path, path)


def unpack_image(file: Path | BinaryIO, name: str | Path) -> Image.Image:
    """An image file, or its bytes, as RGB, or as RGBA where a pixel of it is transparent, turned as its camera says.

    Gray of more than 8 bits is brought to 8 (`gray_bytes`), and depth packed into RGBA is unpacked (`packed_floats`).

    Args:
        name: what messages call it.
    Raises:
        ValueError: not an image, broken, empty, larger than MAX_PIXELS, or with numbers that are not finite.
    """
    try:
        with open_header(file, name) as picture:
            check_size(name, *picture.size)
            has_alpha = "A" in picture.getbands() or "transparency" in picture.info
            picture = ImageOps.exif_transpose(picture)
            if picture.mode[0] in "IF":  # Pillow's own conversion clips at 255
                return Image.fromarray(gray_bytes(np.asarray(picture), name)).convert("RGB")
            if not has_alpha:
                return picture.convert("RGB")
            picture = picture.convert("RGBA")
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name} is too large: {error}; scale it down first") from error
    except (UnidentifiedImageError, OSError, SyntaxError, EOFError) as error:
        raise unreadable(name, error) from error
    if picture.getchannel("A").getextrema()[0] == 255:  # opaque: whether there is a fourth channel says nothing
        return picture.convert("RGB")
    if (depth := packed_floats(np.asarray(picture))) is not None:
        return Image.fromarray(gray_bytes(depth, name)).convert("RGB")
    return picture


def open_header(file: Path | BinaryIO, name: str | Path) -> Image.Image:
    """What Pillow knows of an image before it unpacks it; ValueError as `unpack_image`."""
    try:
        return Image.open(file)
    except ValueError as error:  # what stands beside the pixels is too large
        raise unreadable(name, error) from error


def unreadable(name: str | Path, error: Exception) -> ValueError:
    """What to say about a file that is no image, or a broken one."""
    return ValueError(f"{name} can't be read as a picture ({brief(error)}); use a PNG, JPEG or WebP file")


def gray_bytes(values: np.ndarray, name: str | Path) -> np.ndarray:
    """Gray levels [H, W] of any kind as uint8. Of 16 bits, the upper 8; numbers from 0 to 1, times 255; any other
    range is stretched from its lowest to its highest value.

    Raises:
        ValueError: NaN or infinite values.
    """
    if values.dtype.itemsize == 2 or (values.dtype.kind in "iu" and values.min() >= 0 and values.max() < 2**16):
        return (values.astype(np.int64) // 257).astype(np.uint8)
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds NaN or infinite values; write it anew without them")
    low, high = values.min(), values.max()
    if low < 0 or high > 1:
        values = (values - low) / max(high - low, np.finfo(np.float64).tiny)
    return (values * 255).round().astype(np.uint8)


def packed_floats(rgba: np.ndarray) -> np.ndarray | None:
    """Positive numbers whose four bytes were written as the four channels of an image, as D-RIN's depth maps are:
    uint8 [H, W, 4] -> float32 [H, W]; None for an image.

    The last byte of such numbers is nearly the same everywhere, as the alpha of no image is that has any, and the
    first one noise.
    """
    lowest, highest = (int(bound) for bound in (rgba[..., 3].min(), rgba[..., 3].max()))
    if highest - lowest > 8 or not 0x38 <= lowest <= highest <= 0x4B or byte_steps(rgba[..., 0]) < NOISE:
        return None
    values = np.ascontiguousarray(rgba).view("<f4")[..., 0]
    return values if np.isfinite(values).all() else None


def byte_steps(channel: np.ndarray | Tensor) -> float:
    """How far neighbors of [..., H, W] in 0..255 are apart in the mean; 85 for bytes drawn at random."""
    steps = np.abs(np.diff(np.asarray(channel, dtype=np.float32), axis=-1))
    return float(steps.mean()) if steps.size else 0.0


def check_size(name: str | Path, width: int, height: int) -> None:
    """Raise ValueError for an image without pixels or with more than MAX_PIXELS."""
    if width < 1 or height < 1:
        raise ValueError(f"{name} is {width}x{height} pixels; a picture needs at least one pixel")
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"{name} is {width}x{height} pixels, more than {MAX_PIXELS // 10**6} million; scale it down first"
        )


def to_tensor(picture: Image.Image) -> Tensor:
    """RGB image -> [1, 3, H, W] float in -1..1; transparency is laid on white."""
    if picture.mode == "RGBA":
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    pixels = torch.from_numpy(np.array(picture.convert("RGB")))  # [H, W, 3] uint8
    return pixels.permute(2, 0, 1).unsqueeze(0).float() / 127.5 - 1


def to_pil(images: Tensor) -> list[Image.Image]:
    """[B, 1 or 3, H, W] in -1..1, clamped -> RGB images."""
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
        raise ValueError(f"{name} contains NaN or infinite values; check where it comes from")
