"""Images of any size to canvases and back (section 3.1). Sides that are no multiples of the stride are padded,
and the canvas remembers by how much."""

import torch
from torch import Tensor

from ..autoencoders.base import FirstStage
from ..autoencoders.precision import exact_float32
from ..autoencoders.strips.decoder import decode_codes
from ..autoencoders.strips.encoder import encode
from ..geometry import Wrap
from ..images.io import check_images
from ..images.resize import pad_to_multiple
from .canvas import Canvas, check_wrap


def padding_of(height: int, width: int, stride: int) -> tuple[float, float]:
    """Fraction of the last row and column of cells that is padding, for an image of this many pixels."""
    return (-height % stride) / stride, (-width % stride) / stride


def empty_canvas(height: int, width: int, stride: int) -> Canvas:
    """A canvas for an image of this many pixels, all unknown."""
    canvas = Canvas.empty(1, -(-height // stride), -(-width // stride))
    return canvas.with_padding(padding_of(height, width, stride))


def crop_padding(images: Tensor, padding: tuple[float, float], stride: int) -> Tensor:
    """Crop the padding: [..., h*stride, w*stride] -> [..., H, W]."""
    bottom, right = (round(share * stride) for share in padding)
    return images[..., : images.shape[-2] - bottom, : images.shape[-1] - right]


def check_latents(latents: Tensor, width: int) -> None:
    """Raise ValueError unless `latents` is a non-empty, finite [B, width, h, w] batch."""
    if latents.ndim != 4 or latents.shape[1] != width or not latents.numel():
        raise ValueError(
            f"the latents have shape {tuple(latents.shape)}, this VQGAN takes [B, {width}, h, w] without a zero; "
            "encode the picture with the same VQGAN"
        )
    if not torch.isfinite(latents).all():
        raise ValueError("the latents contain NaN or infinite values; check where they come from")


@torch.inference_mode()
def encode_latents(vqgan: FirstStage, images: Tensor) -> Tensor:
    """Latents of images [B, 1 or 3, H, W] in -1..1 of any size, image by image -> [B, D, h, w] on the CPU.

    Those that would take much memory are encoded strip by strip (`strips.encoder.encode`).

    Raises:
        ValueError: a broken image, or one with channels that the VQGAN does not take.
    """
    check_images(images)
    padded = pad_to_multiple(images, vqgan.config.stride)
    with exact_float32(vqgan.device):  # as encode_indices, of which this is the first half
        return torch.cat([encode(vqgan, image.to(vqgan.device, vqgan.dtype)).cpu() for image in padded.split(1)])


@torch.inference_mode()
def quantize_latents(vqgan: FirstStage, latents: Tensor, padding: tuple[float, float] = (0.0, 0.0)) -> Canvas:
    """The canvas of the nearest codes (arXiv eq. 2): [B, D, h, w] -> [B, h, w] cells.

    Raises:
        ValueError: latents of another width, empty or not finite.
    """
    check_latents(latents, vqgan.latent_width)
    indices = vqgan.quantize(latents.to(vqgan.device, vqgan.dtype)).indices
    return Canvas.filled(indices.cpu()).with_padding(padding)


def encode_canvas(vqgan: FirstStage, images: Tensor) -> Canvas:
    """A canvas with all cells known of images [B, 1 or 3, H, W] in -1..1; errors as `encode_latents`."""
    padding = padding_of(images.shape[-2], images.shape[-1], vqgan.config.stride)
    return quantize_latents(vqgan, encode_latents(vqgan, images), padding)


@torch.inference_mode()
def decode_latents(
    vqgan: FirstStage, latents: Tensor, padding: tuple[float, float] = (0.0, 0.0), wrap: Wrap = "none"
) -> Tensor:
    """Latents as they are, or codes: [B, D, h, w] -> [B, C, H, W] clamped to -1..1, on the CPU.

    Image by image, those that would take much memory strip by strip (`strips.needs_strips`).

    Raises:
        ValueError: latents of another width, empty or not finite, or an image that overhangs where it wraps.
    """
    check_wrap(wrap, padding)
    check_latents(latents, vqgan.config.code_dim)
    decoded = [
        decode_codes(vqgan, latent.to(vqgan.device, vqgan.dtype), wrap).clamp_(-1, 1).cpu()
        for latent in latents.split(1)
    ]
    decoded = torch.cat(decoded) if len(decoded) > 1 else decoded[0]  # a copy of one large image would be a waste
    return crop_padding(decoded, padding, vqgan.config.stride)


@torch.inference_mode()
def lookup_codes(vqgan: FirstStage, canvas: Canvas) -> Tensor:
    """The codes of a canvas, [B, D, h, w] on the CPU; ValueError for one that the VQGAN does not have."""
    return vqgan.codebook.lookup(canvas.indices.to(vqgan.device)).cpu()


@torch.inference_mode()
def decode_canvas(vqgan: FirstStage, canvas: Canvas) -> Tensor:
    """[B, h, w] cells -> images [B, C, H, W] in -1..1 on the CPU; unknown cells are gray. Seamless where it wraps.

    Raises:
        ValueError: a code that the VQGAN does not have.
    """
    stride = vqgan.config.stride
    indices = torch.stack([fill_unknown(*pair) for pair in zip(canvas.indices, canvas.known, strict=True)])
    images = decode_latents(vqgan, vqgan.codebook.lookup(indices.to(vqgan.device)), wrap=canvas.wrap)
    known = canvas.known.cpu().repeat_interleave(stride, 1).repeat_interleave(stride, 2)  # [B, H, W]
    return crop_padding(images.mul_(known.unsqueeze(1)), canvas.padding, stride)


def fill_unknown(indices: Tensor, known: Tensor) -> Tensor:
    """One image's indices [h, w] with known codes, taken in turn, in its unknown cells.

    The decoder's norms and attention see the whole canvas; with codes like those of the image where nothing
    is decided yet, the known part already looks as it will in the end.
    """
    codes = indices[known]
    if not len(codes) or known.all():
        return indices
    indices = indices.clone()
    unknown = int((~known).sum())
    indices[~known] = codes.repeat(-(-unknown // len(codes)))[:unknown]
    return indices
