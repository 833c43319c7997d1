"""How much memory work takes besides the weights, in bytes of float32, so that a host can make room first.

The factors were measured as peaks of allocated memory, on models of 32 and 128 channels and of 256 and 1024 width.
"""

from ..autoencoders.vqgan import VQGAN
from ..priors.transformer import Transformer

CODEC_COPIES = 7  # of the finest features; measured 5.0 to 6.1, for encoder and decoder
PREFILL_COPIES = 11  # of the residual stream; measured 10.7
FLOAT = 4


def codec_memory(vqgan: VQGAN, height: int, width: int) -> int:
    """Encoding or decoding one picture of so many pixels."""
    config = vqgan.config
    return CODEC_COPIES * FLOAT * height * width * config.channels // config.patch_size**2


def sampling_memory(prior: Transformer, batch: int) -> int:
    """Sampling `batch` pictures side by side: keys and values of a whole window, and the first pass over it."""
    config = prior.config
    cache = 2 * config.layers * batch * config.context * config.width
    return FLOAT * (cache + PREFILL_COPIES * batch * config.context * config.width)
