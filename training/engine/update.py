"""What updates the weights, and what is done where it would break them."""

from collections.abc import Iterable

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from .distributed import own, whole

MUON_RATE = 10  # times AdamW's: 0.02 beside 2e-3
MAX_SKIPPED = 5  # steps in a row whose loss is not finite, before a run ends


def prior_optimizers(
    groups: list[dict], blocks: nn.Module, kind: str, weight_decay: float
) -> dict[str, torch.optim.Optimizer]:
    """The optimizers of a module. The loop multiplies its learning rate by a group's "rate".

    Args:
        groups: of all parameters, with the weight decay of each, as AdamW takes them.
        blocks: the part whose matrices are Muon's (Jordan et al. 2024), if the `kind` is muon, else adamw.
        weight_decay: of those.
    Raises:
        ValueError: this torch has no Muon.
    """
    if kind == "muon" and not hasattr(torch.optim, "Muon"):
        raise ValueError(f"optimizer muon needs torch 2.9 or later, this is {torch.__version__}; choose adamw")
    of_blocks = {p: None for p in blocks.parameters() if p.ndim == 2} if kind == "muon" else {}
    rest = [{**group, "params": [p for p in group["params"] if p not in of_blocks]} for group in groups]
    optimizers = {"model": torch.optim.AdamW(rest, betas=(0.9, 0.95), fused=True)}
    if of_blocks:
        matrices = {"params": list(of_blocks), "rate": MUON_RATE}
        optimizers["blocks"] = torch.optim.Muon([matrices], weight_decay=weight_decay)
    return optimizers


def descend(
    module: nn.Module,
    optimizers: Iterable[torch.optim.Optimizer],
    loss: Tensor,
    clip: float,
    accelerator: Accelerator,
) -> tuple[Tensor, Tensor]:
    """Clip the gradients, step, and clear them. Where the loss or the gradient is not finite, on any process, the
    weights stay as they are; the device decides it, by what fused optimizers have for loss scaling. Others wait for it.

    Returns:
        The norm of the gradient before clipping, and whether the step was made, bool.
    """
    norm = whole(accelerator.clip_grad_norm_(module.parameters(), clip))
    made = torch.isfinite(loss.detach())
    if accelerator.scaler is None:  # which looks at gradients itself, and finds the right scale by skipping steps
        made = made & torch.isfinite(norm)
    if accelerator.num_processes > 1:
        made = accelerator.reduce(made.float(), "sum") == accelerator.num_processes
    for optimizer in optimizers:
        getattr(optimizer, "optimizer", optimizer).found_inf = (~made).float()
        if optimizer.defaults.get("fused") or made:
            optimizer.step()
        optimizer.zero_grad()
    return norm.detach(), made


class SkippedSteps:
    """Counts, on the device, the steps that were not made."""

    def __init__(self, device: torch.device):
        self.total, self.in_a_row = torch.zeros((), device=device), torch.zeros((), device=device)

    def note(self, made: Tensor) -> None:
        """One more step."""
        self.total += ~made
        self.in_a_row = torch.where(made, 0.0, self.in_a_row + 1)

    def check(self, step: int) -> None:
        """Raise ValueError if the last few steps all were not made; waits for the device."""
        if self.in_a_row >= MAX_SKIPPED:
            raise ValueError(
                f"the loss has not been finite for {int(self.in_a_row)} steps up to step {step}: lower "
                "loop.learning_rate or loop.clip, or use loop.precision bf16 in place of fp16"
            )


def is_finite(module: nn.Module) -> bool:
    """Whether all numbers of a module are, of which this process has a part; waits for the device."""
    tensors = [own(tensor) for tensor in module.state_dict().values() if tensor.is_floating_point()]
    return bool(torch.stack([torch.isfinite(tensor).all() for tensor in tensors]).all())
