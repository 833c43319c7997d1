"""Exact float32 arithmetic, in which close distances keep their order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

MATMUL, CUDNN = torch.backends.cuda.matmul, torch.backends.cudnn
if hasattr(MATMUL, "fp32_precision"):
    SWITCHES, EXACT = ((MATMUL, "fp32_precision"), (CUDNN.conv, "fp32_precision")), "ieee"
else:  # before torch 2.9
    SWITCHES, EXACT = ((MATMUL, "allow_tf32"), (CUDNN, "allow_tf32")), False


@contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """Within, float32 is calculated as float32: no autocast, which casts products back whatever they are given, and no
    TF32, which keeps ten bits. What is chosen by it, such as the nearest code, is the same wherever it is asked for."""
    before = [getattr(owner, name) for owner, name in SWITCHES]
    known = torch.amp.is_autocast_available(device.type)
    try:
        for owner, name in SWITCHES:
            setattr(owner, name, EXACT)
        with torch.autocast(device.type, enabled=False) if known else nullcontext():
            yield
    finally:
        for (owner, name), value in zip(SWITCHES, before, strict=True):
            setattr(owner, name, value)
