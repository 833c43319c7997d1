"""A judge of realism for a finished VQGAN: a patch discriminator learns to tell pictures from its reconstructions
(section 3.1, arXiv eq. 5), while the VQGAN stays as it is."""

from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ...core.autoencoders.discriminator import DiscriminatorConfig, PatchDiscriminator, hinge_loss
from ...core.autoencoders.discriminator_file import Realism, save_discriminator
from ...core.images.metrics import percentiles
from ...core.loading import load_vqgan
from ..config.runs import VQGANRun
from ..data.folder import ImageViews
from ..data.views import input_and_target
from ..engine.distributed import synchronized_once
from ..engine.ema import make_ema
from ..engine.update import descend
from .reconstructions import realism_of_held_out, reconstruction_strip


class JudgeTask:
    """Loss and validation of a discriminator alone; see `loop.Task`."""

    def __init__(self, run: VQGANRun, held_out: ImageViews):
        self.run, self.held_out, self.vqgan = run, held_out, load_vqgan(run.start_from)
        config = DiscriminatorConfig(
            image_channels=self.vqgan.config.image_channels, channels=run.loss.discriminator_channels
        )
        judge = PatchDiscriminator(config)
        self.modules: dict[str, nn.Module] = {"model": judge}
        self.optimizers = {"model": torch.optim.Adam(judge.parameters(), betas=(0.5, 0.9), fused=True)}
        self.averaged = make_ema(judge, run.loop.ema)
        self.stages: dict[str, str] = {}
        self.extra_state: dict[str, Tensor] = {}
        self.goal = None
        self.scored: tuple[int, tuple[Tensor, Tensor]] | None = None

    def step(self, batches: list[dict[str, Tensor]], step: int, accelerator: Accelerator) -> dict[str, Tensor]:
        """One update. Pictures and reconstructions are judged in one batch: its statistics tell nothing."""
        judge, total, right = self.modules["model"], 0.0, 0.0
        running = [(figure, figure.clone()) for figure in judge.buffers()]
        for batch in synchronized_once(batches, judge):
            given, wanted = input_and_target(batch, self.run.data.picture)
            with torch.no_grad(), accelerator.autocast():
                made = self.vqgan.to(given.device)(given).image.float()
            real, false = judge(torch.cat([wanted, made])).chunk(2)
            loss = hinge_loss(real, false)
            accelerator.backward(loss / len(batches))
            total = total + loss.detach() / len(batches)
            right = right + ((real > 0).float().mean() + (false < 0).float().mean()) / 2 / len(batches)
        _, done = descend(judge, self.optimizers.values(), total, self.run.loop.clip, accelerator)
        for figure, before in running:
            figure.copy_(torch.where(done, figure, before))
        return {"loss": total, "patches_right": right, "made": done}

    def statistics(self) -> dict[str, float]:
        """Nothing more."""
        return {}

    def scores(self) -> tuple[Tensor, Tensor]:
        """What the averaged weights say of held-out pictures and of their reconstructions: [n] each; of the same
        weights worked out once."""
        updates = int(self.averaged.n_averaged)
        if self.scored is None or self.scored[0] != updates:
            self.scored = updates, realism_of_held_out(self.averaged.module, self.vqgan, self.held_out)
        return self.scored[1]

    def validate(self) -> dict[str, float]:
        """In how many held-out pairs the picture scores above its reconstruction, and both means."""
        real, made = self.scores()
        return {
            "told_apart": (real > made).float().mean().item(), "pictures": real.mean().item(),
            "reconstructions": made.mean().item(),
        }  # fmt: skip

    def preview(self) -> dict[str, Tensor]:
        """Held-out pictures above their reconstructions, which it has to tell apart."""
        return {"reconstruction": reconstruction_strip(self.vqgan, self.held_out)}

    def health(self, report: dict[str, float]) -> str:
        """Whether anything is learned yet."""
        right = report["patches_right"]
        return "no better than chance yet" if right < 0.55 else f"{right:.0%} of patches are told right"

    def export(self, folder: Path) -> Path:
        """The averaged weights with their table as `discriminator.safetensors`."""
        path = folder / "discriminator.safetensors"
        realism = Realism(self.averaged.module, percentiles(self.scores()[1]))
        save_discriminator(path, realism, half=True, trained_on=self.run.data.folder)
        return path
