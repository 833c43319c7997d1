"""Views of a picture: crops, neighbors, backgrounds, colors."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageColor

from ..config.runs import DataConfig

FIRM_WIDTH = 3  # pixels, of the lines a VQGAN of edges learns to draw: a near miss of a thinner one would count as two
MAX_FLOATS = 4_000_000  # pixels of a picture that become floats as they are, 64 MB
PITCH = (0.9, 1.3)  # range from one neighbor to the next, in shares of their size


def random_width(limits: tuple[int, int], rng: np.random.Generator) -> int:
    """A width in pixels; each doubling is as likely as the next, so most lines stay thin."""
    return int(np.exp(rng.uniform(np.log(limits[0]), np.log(limits[1] + 1))))


def widen(lines: np.ndarray, width: int) -> np.ndarray:
    """Lines [H, W] one pixel wide, as a round pen of `width` pixels draws them."""
    return cv2.dilate(lines, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))


@dataclass(frozen=True)
class Placement:
    """How a picture lies in a square view.

    size: width and height of the picture. side: pixels of the view. scale: how many times as large the picture is
    shown. center: x and y in the view where the picture's middle is. flip: mirrored. covers: leaves no background.
    """

    size: tuple[int, int]
    side: int
    scale: float
    center: tuple[float, float]
    flip: bool
    covers: bool

    @property
    def canvas(self) -> tuple[int, int]:
        """Height and width of the whole picture as large as the view shows it, in pixels; at least the view's."""
        width, height = (max(self.side, round(side * self.scale)) for side in self.size)
        return height, width

    @property
    def corner(self) -> tuple[int, int]:
        """The view's first row and column on that canvas."""
        (height, width), (x, y) = self.canvas, self.center
        top, left = round(height / 2 - y), round(width / 2 - x)
        return min(max(top, 0), height - self.side), min(max(left, 0), width - self.side)


def place(picture: Image.Image, config: DataConfig, rng: np.random.Generator | None) -> Placement:
    """Where a view shows a picture: those with transparency are fitted into it, opaque ones cover it. Without `rng` in
    the middle."""
    size = config.size
    zoom, shift, flip = 1.0, np.zeros(2), False
    if rng is not None:
        zoom = rng.uniform(*config.zoom)
        shift = rng.uniform(-config.shift, config.shift, 2) * size
        flip = config.flip and rng.random() < 0.5
    if picture.mode == "RGBA":
        scale = zoom * size / max(picture.size)
    else:
        scale = max(zoom, 1.0) * size / min(picture.size)
        slack = np.array(picture.size) * scale / 2 - size / 2  # how far it may move and still cover
        shift = np.clip(shift, -slack, slack)
    x, y = size / 2 + shift
    return Placement(picture.size, size, float(scale), (float(x), float(y)), bool(flip), picture.mode != "RGBA")


def render_view(
    picture: Image.Image, placement: Placement, config: DataConfig, rng: np.random.Generator | None
) -> np.ndarray:
    """One square view: placed, mirrored, laid on a background, recolored. [size, size, 3] uint8 RGB.

    Without `rng` it is plain: unchanged, on the first background.
    """
    hue, background = 0.0, config.backgrounds[0]
    if rng is not None:
        hue = rng.uniform(-config.hue, config.hue)
        background = config.backgrounds[rng.integers(len(config.backgrounds))]
    view = np.broadcast_to(background_color(background, rng), (config.size, config.size, 3))
    return shift_hue(overlay(view, picture, placement.scale, np.array(placement.center), placement.flip), hue)


def render_neighbors(pictures: Callable[[], Image.Image], config: DataConfig, rng: np.random.Generator) -> np.ndarray:
    """Parts of several pictures side by side, as a window on a larger canvas shows them. [size, size, 3] uint8 RGB.

    Args:
        pictures: gives a picture, another one each time.
    """
    size = config.size
    side = rng.uniform(*config.zoom) * size
    pitch = side * rng.uniform(*PITCH)
    columns, rows = (np.arange(first, size + side / 2, pitch) for first in rng.uniform(-side / 2, pitch - side / 2, 2))
    view = np.broadcast_to(
        background_color(config.backgrounds[rng.integers(len(config.backgrounds))], rng), (size, size, 3)
    )
    for x, y in itertools.product(columns, rows):
        picture = pictures()
        view = overlay(view, picture, side / max(picture.size), np.array([x, y]), config.flip and rng.random() < 0.5)
    return shift_hue(view, rng.uniform(-config.hue, config.hue))


def background_color(background: str, rng: np.random.Generator | None) -> np.ndarray:
    """The color of a background, [3] in 0..1; a random one is white where nothing is random."""
    if background == "random":
        return rng.uniform(0, 1, 3).astype(np.float32) if rng is not None else np.ones(3, np.float32)
    return np.array(ImageColor.getrgb(background)[:3], dtype=np.float32) / 255


def overlay(view: np.ndarray, picture: Image.Image, scale: float, center: np.ndarray, flip: bool) -> np.ndarray:
    """View [H, W, 3] in 0..1 with a picture on it, `scale` times as large, its middle at `center` (x, y in pixels)."""
    has_alpha = picture.mode == "RGBA"
    if picture.width * picture.height > MAX_FLOATS:
        picture, scale, center = visible_part(picture, scale, center, view.shape[1::-1], flip)
    rgba = np.asarray(picture.convert("RGBA"), dtype=np.float32) / 255
    rgba[..., :3] *= rgba[..., 3:]  # premultiplied, or resampling bleeds hidden colors into the outline
    height, width = rgba.shape[:2]
    if scale < 1:  # shrink by area first: a bilinear warp alone would alias
        shrunk = (max(1, round(width * scale)), max(1, round(height * scale)))
        rgba = cv2.resize(rgba, shrunk, interpolation=cv2.INTER_AREA)
        height, width, scale = rgba.shape[0], rgba.shape[1], 1.0
    matrix = np.array([[-scale if flip else scale, 0, 0], [0, scale, 0]])
    matrix[:, 2] = center - 0.5 - matrix[:, :2] @ np.array([(width - 1) / 2, (height - 1) / 2])
    border = cv2.BORDER_CONSTANT if has_alpha else cv2.BORDER_REPLICATE
    rgba = cv2.warpAffine(rgba, matrix, view.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=border)
    return rgba[..., :3] + (1 - rgba[..., 3:]) * view


def visible_part(
    picture: Image.Image, scale: float, center: np.ndarray, size: tuple[int, int], flip: bool
) -> tuple[Image.Image, float, np.ndarray]:
    """What of a huge picture shows in a view of `size` (width, height), shrunk by a whole number to two to four pixels
    for one of the view; with it, `scale` and `center` of `overlay`. So its numbers never become floats all at once."""
    factor, margin = max(1, min(int(0.5 / scale), *picture.size)), 2 + 2 / scale
    signs, sides, whole = np.array([-1 if flip else 1, 1]), np.array(size), np.array(picture.size)
    ends = whole / 2 + np.stack([-center, sides - center]) / (signs * scale)  # of the view, in pixels of the picture
    first = np.clip(np.floor(ends.min(0) - margin), 0, whole - factor).astype(int)
    last = np.clip(np.ceil(ends.max(0) + margin), first + factor, whole).astype(int)
    last = first + (last - first) // factor * factor
    center = center + signs * scale * ((first + last) / 2 - whole / 2)
    box = (*first.tolist(), *last.tolist())
    return picture.reduce(factor, box) if factor > 1 else picture.crop(box), scale * factor, center


def shift_hue(view: np.ndarray, hue: float) -> np.ndarray:
    """A view [H, W, 3] in 0..1 with its hue turned by a share of the circle, as uint8."""
    if hue:
        hsv = cv2.cvtColor(view.clip(0, 1).astype(np.float32), cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0] + hue * 360) % 360
        view = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return (view.clip(0, 1) * 255).round().astype(np.uint8)
