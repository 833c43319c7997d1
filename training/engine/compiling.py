"""torch.compile: models made faster by generated code, where there is a compiler."""

import torch
from torch import Tensor


def check_compiler(device: torch.device) -> None:
    """Compile one line; ValueError where that fails."""
    try:
        torch.compile(_twice)(torch.ones(8, device=device))
    except Exception as error:  # of many kinds, from the layers below
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"loop.compile is true, but nothing can be compiled here ({reason}); install a C++ compiler with Python's "
            "headers, for a GPU also triton, or leave it out"
        ) from error


def _twice(numbers: Tensor) -> Tensor:
    return numbers * 2
