"""Tells whether two runs were asked for the same thing."""

import dataclasses
import hashlib
from typing import Any

import torch
from torch import Tensor


def fingerprint(*values: Any) -> str:
    """Hex digits that are equal for equal content: tensors, dataclasses and tuples of them, numbers, strings, None."""
    digest = hashlib.sha256()
    for value in values:
        if isinstance(value, Tensor):
            digest.update(f"{value.dtype} {tuple(value.shape)} ".encode())
            numbers = value.detach().cpu().contiguous().flatten().view(torch.uint8)  # numpy has no bfloat16
            digest.update(numbers.numpy().data)
        elif isinstance(value, tuple):
            digest.update(f"tuple {fingerprint(*value)} ".encode())
        elif dataclasses.is_dataclass(value):
            fields = [getattr(value, field.name) for field in dataclasses.fields(value)]
            digest.update(f"{type(value).__name__} {fingerprint(*fields)} ".encode())
        else:
            digest.update(f"{value!r} ".encode())
    return digest.hexdigest()
