"""Linear layers for a few rows, laid out so that a CPU reads the weights once and with all threads."""

from __future__ import annotations

import functools
import math
import platform
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

BLOCKS = 16  # of a weight matrix for one or two rows; the CPU's threads share them
HALF_ENGINES = ("x86", "fbgemm")  # of torch.backends.quantized: those that have FBGEMM
TYPICAL_ROWS = 16  # that oneDNN's layout is chosen for; it serves any number


class PackedLinear:
    """`layer` for inputs [rows, C_in] of few rows, whose number may change; its weights must not.

    Each layout is made when the first rows for it come. Weights that half precision holds exactly, as those of a file
    in it, are read as such, which is half of the memory; sums are of float32 all the same.
    """

    def __init__(self, layer: nn.Linear):
        self.layer = layer
        self.layouts: dict[bool, Callable[[Tensor], Tensor]] = {}

    def __call__(self, x: Tensor) -> Tensor:
        many = len(x) > 2
        if many not in self.layouts:
            if is_half(self.layer):
                self.layouts = dict.fromkeys((False, True), half_linear(self.layer))
            else:
                self.layouts[many] = pack_linear(self.layer, TYPICAL_ROWS if many else 1)
        return self.layouts[many](x)


def is_half(layer: nn.Linear) -> bool:
    """Whether `half_linear` serves the layer here and multiplies by the same numbers."""
    weight = layer.weight
    if not weight.is_cpu or torch.backends.quantized.engine not in HALF_ENGINES:
        return False
    return all(torch.equal(part.half().to(part.dtype), part) for part in (weight[:1], weight))  # most differ at once


def half_linear(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    """`layer` with its weights in half precision, for any number of rows; FBGEMM adds up in float32."""
    bias, dtype = layer.bias, layer.weight.dtype
    packed = torch.ops.quantized.linear_prepack_fp16(
        layer.weight.detach().float(), None if bias is None else bias.float()
    )
    return lambda x: torch.ops.quantized.linear_dynamic_fp16(x.float(), packed).to(dtype)


def pack_linear(layer: nn.Linear, rows: int) -> Callable[[Tensor], Tensor]:
    """`layer` for inputs [rows, C_in], laid out for speed on a CPU; its weights must not change.

    One or two rows go as they are or block by block, whichever reads the matrix with all threads. More get the layout
    of oneDNN, a copy, where torch has it; it serves any number of them.
    """
    if not layer.weight.is_cpu or layer.weight.dtype != torch.float32:
        return layer
    if rows <= 2:
        return layer if one_matrix_all_threads() else blocked_linear(layer)
    if not torch.backends.mkldnn.is_available():
        return layer
    packed, bias = torch.ops.mkldnn._reorder_linear_weight(layer.weight, rows), layer.bias
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


def blocked_linear(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    """`layer` as a batch of products, one for each block of output rows: the threads share these."""
    bias, blocks = layer.bias, math.gcd(layer.out_features, BLOCKS)
    weight = layer.weight.view(blocks, -1, layer.in_features)  # [blocks, C_out/blocks, C_in]

    def multiply(x: Tensor) -> Tensor:
        # the strides of transposed rows, not those of columns, choose the fast kernel
        out = torch.bmm(weight, x.t().expand(blocks, -1, -1))  # [blocks, C_out/blocks, rows]
        out = out.view(1, -1) if len(x) == 1 else out.flatten(0, 1).t().contiguous()
        return out if bias is None else out.add_(bias)

    return multiply


@functools.cache
def one_matrix_all_threads() -> bool:
    """True where a few rows times one matrix use all threads: MKL does so on Intel's CPUs only."""
    if not torch.backends.mkl.is_available():
        return True
    information = Path("/proc/cpuinfo")
    text = information.read_text(errors="replace") if information.exists() else platform.processor()
    return "GenuineIntel" in text
