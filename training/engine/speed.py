"""How fast a run is: pictures a second, waits for data, and how much of the device's peak is used (MFU)."""

import functools
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ..config.runs import LoopConfig

SIDE = {"cpu": 512}  # of the matrices whose product shows the peak
LARGE_SIDE = 4096  # on other devices
TRIES = 8
DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Operations(TorchDispatchMode):
    """Counts floating-point operations as they are carried out, by torch's formulas for each kind. Unlike torch's own
    FlopCounterMode it takes none of them apart, which would change the last bits of a gradient."""

    def __init__(self):
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func._overloadpacket):
            self.number += formula(*args, **(kwargs or {}), out_val=result)
        return result


class Speed:
    """What the steps between two lines of the log took. The floating-point operations of a step are counted once a
    session, as they are carried out; `items` are the pictures of a step of all processes."""

    def __init__(self, loop: LoopConfig, items: int, device: torch.device):
        self.loop, self.items, self.device = loop, items, device
        self.busy = self.waited = 0.0
        self.steps = 0
        self.counter: Operations | None = None

    @contextmanager
    def working(self) -> Iterator[None]:
        """Time that counts."""
        began = time.monotonic()
        yield
        self.busy += time.monotonic() - began

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The part of it in which pictures were awaited."""
        began = time.monotonic()
        yield
        self.waited += time.monotonic() - began

    def counting(self) -> AbstractContextManager:
        """Counts the operations of one step: the first, or the second where the first one compiles the model, which it
        would not while it is watched."""
        self.steps += 1
        if self.steps != 1 + self.loop.compile:
            return nullcontext()
        self.counter = Operations()
        return self.counter

    def figures(self) -> dict[str, float]:
        """Means of a step since the last time."""
        seconds, waited = (total / self.loop.log_every for total in (self.busy, self.waited))
        self.busy = self.waited = 0.0
        figures = {"seconds_per_step": seconds, "data_wait": waited, "images_per_second": self.items / seconds}
        if self.counter is not None:
            peak = self.loop.peak_tflops * 1e12 or measured_peak(self.device, DTYPES[self.loop.precision])
            figures["mfu"] = self.counter.number / seconds / peak
        return figures


@functools.cache
def measured_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of the fastest of a few products of two matrices, where nothing else runs."""
    side = SIDE.get(device.type, LARGE_SIDE)
    matrix = torch.ones(side, side, device=device, dtype=dtype)
    return 2 * side**3 / min(seconds_of_product(matrix) for _ in range(TRIES))


def seconds_of_product(matrix: torch.Tensor) -> float:
    """How long a matrix [S, S] times itself takes, until the device is done."""
    wait_for(matrix.device)
    began = time.monotonic()
    matrix @ matrix
    wait_for(matrix.device)
    return time.monotonic() - began


def wait_for(device: torch.device) -> None:
    """Until the device has done all that it was given."""
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()
