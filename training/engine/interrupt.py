"""Stopping between two steps."""

import signal

import torch
from accelerate import Accelerator


class StopRequest:
    """Turns the first Ctrl-C into a request to stop after the step; a second one interrupts at once."""

    def __init__(self):
        self.requested = False

    def __enter__(self):
        self.previous = signal.signal(signal.SIGINT, self.request)
        return self

    def __exit__(self, *exception):
        signal.signal(signal.SIGINT, self.previous)

    def request(self, *_):
        """Note the wish and give Ctrl-C its usual meaning back."""
        self.requested = True
        signal.signal(signal.SIGINT, self.previous)


def on_any_process(wishes: list[bool], accelerator: Accelerator) -> list[bool]:
    """Each wish, granted on all processes if one has it: they stop and save at the same step."""
    if accelerator.num_processes == 1:
        return wishes
    wanted = torch.tensor(wishes, dtype=torch.float32, device=accelerator.device)
    return (accelerator.reduce(wanted, "sum") > 0).tolist()
