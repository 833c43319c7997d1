"""Tells whether two runs were asked for the same thing."""

import dataclasses
import hashlib
from typing import Any

from torch import Tensor


def fingerprint(*values: Any) -> str:
    """Hex digits that are equal for equal content: tensors, dataclasses of them, numbers, strings, None."""
    digest = hashlib.sha256()
    for value in values:
        if isinstance(value, Tensor):
            digest.update(f"{value.dtype} {tuple(value.shape)} ".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        elif dataclasses.is_dataclass(value):
            fields = [getattr(value, field.name) for field in dataclasses.fields(value)]
            digest.update(f"{type(value).__name__} {fingerprint(*fields)} ".encode())
        else:
            digest.update(f"{value!r} ".encode())
    return digest.hexdigest()
