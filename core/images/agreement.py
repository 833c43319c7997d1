"""A large image that agrees with the small one it was made from: made small again, it is that one.

Iterative back-projection (Irani and Peleg 1991): what the small image has and the large one lacks is enlarged and
added, several times. Colors and light are then those that were given; only the detail is what a model made of it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .io import check_images

ROUNDS = 10  # after which the small images differ by less than a level of 255, clipped pixels aside


@torch.inference_mode()
def agree(images: Tensor, small: Tensor) -> Tensor:
    """Images changed as little as it takes to agree with small ones, scaled down by a bicubic filter.

    Args:
        images: [B, C, H, W] in -1..1.
        small: [B or 1, C, h, w] in -1..1, of the same proportions.
    Returns:
        [B, C, H, W] in -1..1.
    Raises:
        ValueError: a broken image, or small ones that are larger, of other proportions or of another number.
    """
    check_images(images, "the large picture")
    check_images(small, "the small picture")
    (height, width), (low, narrow) = images.shape[-2:], small.shape[-2:]
    if low > height or narrow > width or abs(low * width - narrow * height) > max(height, width):
        raise ValueError(
            f"the small picture is {narrow}x{low} pixels, the large one {width}x{height}; give the one that it was "
            "made from, whole"
        )
    if len(small) not in (1, len(images)):
        raise ValueError(f"there are {len(images)} large pictures and {len(small)} small ones; give as many, or one")
    made = images.float()
    for _ in range(ROUNDS):
        missing = small - F.interpolate(made, (low, narrow), mode="bicubic", antialias=True)
        made = (made + F.interpolate(missing, (height, width), mode="bicubic")).clamp(-1, 1)
    return made.to(images.dtype)
