"""The nearest of 16384 codes, against the textbook formula."""

import torch
from torch import Tensor

from ..core.autoencoders.nearest import nearest_code
from .report import Report
from .timing import alternate, in_new_process, peak_memory_of, seconds_of

ABOUT = """\
Nearest of 16384 codes, 256 numbers each, for 256 latents (a picture of 256x256 pixels) and for 4096 (1024x1024).
The baseline is the formula as it is usually written: all distances |z|^2 + |e|^2 - 2 z.e as one matrix, then argmin.
Memory is what a new process takes for the search beyond its inputs, at the larger size."""


def textbook(latents: Tensor, codes: Tensor) -> Tensor:
    """All distances at once: [N, D], [K, D] -> [N]."""
    distances = latents.square().sum(1, keepdim=True) + codes.square().sum(1) - 2 * latents @ codes.t()  # [N, K]
    return distances.argmin(1)


SEARCHES = {"ours": nearest_code, "textbook": textbook}


def inputs(latents: int, codes: int, width: int = 256) -> tuple[Tensor, Tensor]:
    """Random latents and codes."""
    torch.manual_seed(0)
    return torch.randn(latents, width), torch.randn(codes, width)


def memory_of(name: str, latents: int, codes: int) -> int:
    """Peak bytes of one search beyond its inputs."""
    given = inputs(latents, codes)
    return peak_memory_of(lambda: SEARCHES[name](*given))


@torch.inference_mode()
def measure(quick: bool) -> Report:
    """Time at two sizes, memory at the larger."""
    sizes, codes = ((16, 64), 4096) if quick else ((256, 4096), 16384)
    ratios, seconds = {}, {}
    for latents in sizes:
        given = inputs(latents, codes)
        candidates = {
            name: lambda search=search, given=given: seconds_of(lambda: search(*given))
            for name, search in SEARCHES.items()
        }
        times = alternate(candidates, 3 if quick else 15)
        ratios[f"{latents} latents: textbook / ours, time"] = times["textbook"] / times["ours"]
        seconds |= {f"{latents} latents: {name}": value for name, value in times.items()}
    memory = {name: max(1, in_new_process(memory_of, name, sizes[-1], codes)) for name in SEARCHES}
    ratios[f"{sizes[-1]} latents: textbook / ours, memory"] = memory["textbook"] / memory["ours"]
    return Report("search", ABOUT, ratios, seconds, {f"{sizes[-1]} latents: {n}": v for n, v in memory.items()})
