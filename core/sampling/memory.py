"""How much memory work takes besides the weights, in bytes, so that a host can make room first.

The factors were measured as peaks of allocated memory, on models of 32 and 128 channels and of 256 and 1024 width.
"""

from ..autoencoders.vqgan import VQGAN
from ..priors.transformer import Transformer

CODEC_COPIES = 7  # of the finest features; measured 5.0 to 6.1, for encoder and decoder
PREFILL_COPIES = 11  # of the residual stream; measured 10.7


def codec_memory(vqgan: VQGAN, height: int, width: int) -> int:
    """Encoding or decoding one picture of so many pixels."""
    config = vqgan.config
    element = vqgan.quant_conv.weight.element_size()
    return CODEC_COPIES * element * height * width * config.channels // config.patch_size**2


def sampling_memory(prior: Transformer, batch: int, guided: bool = False) -> int:
    """Sampling `batch` pictures side by side: keys and values of a whole window, and the first pass over it; both
    once more where windows are also read without the condition (guidance)."""
    config = prior.config
    batch *= 2 if guided else 1
    cache = 2 * config.layers * batch * config.context * config.width
    return prior.pos_emb.element_size() * (cache + PREFILL_COPIES * batch * config.context * config.width)
