"""A dVAE as a first stage (Ramesh et al. 2021, appendix A.2): a soft choice of codes, drawn by Gumbel noise that cools
down, and the likelihood of every pixel under a Laplace distribution of its logit."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from ...core.autoencoders.dvae import DVAE, map_pixels
from ...core.autoencoders.vqgan_file import save_vqgan
from ..config.runs import DVAELossConfig, VQGANRun
from ..data.folder import ImageViews
from ..engine.distributed import synchronized_once
from ..engine.ema import make_ema
from ..engine.update import descend
from .reconstructions import evaluate_vqgan, reconstruction_strip

COLORS = 3 * 8 * 8  # numbers of an image to one of its cells: the divergence is of a cell, the likelihood of a number


class Objective(nn.Module):
    """What training lowers."""

    def __init__(self, model: DVAE):
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """The negative logarithm of the logit-Laplace density, a number of the images [B, 3, H, W] in -1..1; and the
        divergence of the codes' distributions from all codes being alike, a cell."""
        logits = self.model.encode(image)
        choice = F.gumbel_softmax(logits, tau=temperature, dim=1)
        mean, scale = self.model.decoder(choice).float().chunk(2, 1)
        wanted = map_pixels(image)
        apart = (wanted.logit() - mean).abs() * (-scale).exp()
        surprise = apart + scale + (2 * wanted * (1 - wanted)).log()
        likely = logits.float().log_softmax(1)
        divergence = (likely.exp() * (likely + math.log(self.model.config.codebook_size))).sum(1)
        return surprise.mean(), divergence.mean()


class DVAETask:
    """Loss and validation of a dVAE; see `loop.Task`."""

    def __init__(self, run: VQGANRun, held_out: ImageViews):
        self.run, self.held_out = run, held_out
        objective = Objective(DVAE(run.model))
        self.modules: dict[str, nn.Module] = {"model": objective}
        self.optimizers = {
            "model": torch.optim.AdamW(
                objective.parameters(), betas=(0.9, 0.999), weight_decay=run.dvae.weight_decay, fused=True
            )
        }
        self.averaged = make_ema(objective, run.loop.ema)
        self.stages: dict[str, str] = {}
        self.goal = None  # the last: at the beginning codes are drawn too softly to be compared
        self.extra_state: dict[str, Tensor] = {}

    def step(self, batches: list[dict[str, Tensor]], step: int, accelerator: Accelerator) -> dict[str, Tensor]:
        """One update."""
        model, total, report = self.modules["model"], 0.0, {}
        temperature, kl_weight = schedules(self.run.dvae, step)
        for batch in synchronized_once(batches, model):
            surprise, divergence = model(batch["color"], temperature)
            loss = surprise + kl_weight / COLORS * divergence
            accelerator.backward(loss / len(batches))
            total = total + loss.detach() / len(batches)
            for name, value in (("surprise", surprise), ("divergence", divergence)):
                report[name] = value.detach() / len(batches) + report.get(name, 0.0)
        norm, made = descend(model, self.optimizers.values(), total, self.run.loop.clip, accelerator)
        fixed = {"temperature": torch.tensor(temperature), "kl_weight": torch.tensor(kl_weight)}
        return report | {name: value.to(total.device) for name, value in fixed.items()} | {
            "gradient_norm": norm, "made": made,
        }  # fmt: skip

    def statistics(self) -> dict[str, float]:
        """Nothing more."""
        return {}

    def kept(self) -> DVAE:
        """The averaged weights."""
        return self.averaged.module.model

    def validate(self) -> dict[str, float]:
        """PSNR, SSIM and codebook use on the held-out pictures, each cell by its likeliest code."""
        return evaluate_vqgan(self.kept(), self.held_out, self.run.loop.batch)

    def preview(self) -> dict[str, Tensor]:
        """Held-out pictures above their reconstructions."""
        return {"reconstruction": reconstruction_strip(self.kept(), self.held_out)}

    def health(self, report: dict[str, float]) -> str:
        """Whether codes say anything."""
        most = math.log(self.run.model.codebook_size)
        if report["divergence"] < 0.05 * most:
            return "codes say hardly anything yet; if it stays so, lower dvae.kl_weight"
        return f"a cell's code holds {report['divergence']:.2f} of {most:.2f} nats"

    def export(self, folder: Path) -> Path:
        """The averaged weights as `vqgan.safetensors`."""
        path = folder / "vqgan.safetensors"
        save_vqgan(path, self.kept(), trained_on=self.run.data.folder)
        return path


def schedules(config: DVAELossConfig, step: int) -> tuple[float, float]:
    """Temperature and weight of the divergence at a step."""
    cooled, risen = (
        (1 - math.cos(math.pi * min(1.0, step / steps))) / 2 for steps in (config.temperature_steps, config.kl_steps)
    )
    return 1 + (config.temperature - 1) * cooled, config.kl_weight * risen
