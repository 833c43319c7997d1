"""The first stage: train a VQGAN to reconstruct pictures (section 3.1, eq. 4; adversary 3.1.1, eq. 5)."""

import copy
import logging
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from ...core.autoencoders.discriminator import PatchDiscriminator, hinge_loss
from ...core.autoencoders.losses import adaptive_weight, feature_matching
from ...core.autoencoders.nearest import as_rows
from ...core.autoencoders.usage import codebook_usage
from ...core.autoencoders.vqgan import VQGAN
from ...core.autoencoders.vqgan_file import save_vqgan
from ...core.images.lpips import PerceptualLossUnavailable, build_lpips
from ...core.images.metrics import edge_agreement, psnr, ssim
from ...core.loading import load_vqgan
from ...core.storage.model_file import check_shapes
from ..config.runs import VQGANLossConfig, VQGANRun
from ..data.folder import ImageViews, input_and_target, load_split
from ..data.stream import endless, once
from ..engine.ema import make_ema
from ..engine.loop import make_accelerator, train
from ..engine.plots import image_grid

logger = logging.getLogger("tessera")

PREVIEW_IMAGES = 12


class VQGANTask:
    """Losses, dead-code restart and validation of the first stage; see `loop.Task`."""

    def __init__(self, run: VQGANRun, held_out: ImageViews):
        self.run, self.held_out = run, held_out
        model = VQGAN(run.model)
        if run.start_from:
            load_start(model, run.start_from)
            if hasattr(model.codebook, "start_average"):
                model.codebook.reset_ema()
        self.start = (
            {name: tensor.clone() for name, tensor in model.decoder.state_dict().items()} if run.blend < 1 else {}
        )
        if run.learn == "decoder":
            for part in (model.encoder, model.quant_conv, model.codebook):
                part.requires_grad_(False)
        self.modules: dict[str, nn.Module] = {"model": model}
        self.perceptual = choose_perceptual(run.loss)
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizers = {"model": torch.optim.Adam(trained, betas=(0.5, 0.9))}
        if run.loss.adversarial_weight > 0 or self.perceptual == "features":
            discriminator = PatchDiscriminator(run.model.image_channels, run.loss.discriminator_channels)
            self.modules["discriminator"] = discriminator
            self.optimizers["discriminator"] = torch.optim.Adam(discriminator.parameters(), betas=(0.5, 0.9))
        self.averaged = make_ema(model, run.loop.ema)
        self.goal = None if run.loss.adversarial_weight > 0 else ("psnr", 1)  # crispness costs decibels
        # uses of each code since the last restart, and in the stretch before it
        self.extra_state = {name: torch.zeros(run.model.codebook_size) for name in ("counts", "last_counts")}

    def step(self, batches: list[dict[str, Tensor]], step: int, accelerator: Accelerator) -> dict[str, float]:
        """One update of encoder, codebook and decoder, then one of the discriminator."""
        pairs = [input_and_target(batch, self.run.data.picture) for batch in batches]
        model = self.modules["model"]
        codebook = accelerator.unwrap_model(model).codebook
        generator = torch.Generator().manual_seed(self.run.loop.seed * 1_000_003 + step)
        if step == 0 and not self.run.start_from and hasattr(codebook, "start_from"):
            with torch.no_grad(), accelerator.autocast():
                latents = torch.cat([accelerator.unwrap_model(model).encode(given) for given, _ in pairs])
            codebook.init_kmeans(as_rows(accelerator.gather(latents.float().contiguous())), generator)
        report: dict[str, float] = {}
        reconstructions, latents = [], []
        for given, wanted in pairs:
            out = model(given)
            loss, parts = self.model_loss(wanted, out.image, step, accelerator)
            loss = loss + out.quantized.loss.float()
            parts["codebook"] = out.quantized.loss.item()
            accelerator.backward(loss / len(pairs))
            add(report, parts, 1 / len(pairs))
            reconstructions.append(out.image.detach())
            latents.append(out.latents.detach().float())
            self.count(out.quantized.indices, accelerator)
        self.update(model, "model", accelerator)
        if "discriminator" in self.modules and step >= self.run.loss.discriminator_start:
            report["discriminator"] = self.discriminator_step(
                [wanted for _, wanted in pairs], reconstructions, accelerator
            )
        if hasattr(codebook, "ema_update") and self.run.learn == "all":
            self.update_codebook(codebook, torch.cat(latents), step, generator, accelerator)
        if (step + 1) % (self.run.loss.restart_every or 50) == 0:
            self.extra_state["last_counts"].copy_(self.extra_state["counts"])
            self.extra_state["counts"].zero_()
        codes = codebook_usage(self.extra_state["last_counts"])
        return report | {"usage": codes.usage, "perplexity": codes.perplexity, "dead_codes": codes.dead}

    def count(self, indices: Tensor, accelerator: Accelerator) -> None:
        """Note the use of each code, over all processes."""
        uses = torch.bincount(indices.flatten(), minlength=self.run.model.codebook_size)
        self.extra_state["counts"] += accelerator.reduce(uses, "sum").cpu()

    def model_loss(
        self, image: Tensor, reconstruction: Tensor, step: int, accelerator: Accelerator
    ) -> tuple[Tensor, dict[str, float]]:
        """Reconstruction, perceptual and adversarial terms and their values by name."""
        weights = self.run.loss
        reconstruction = reconstruction.float()
        l1 = (reconstruction - image).abs().mean()
        nll = weights.l1 * l1
        parts = {"l1": l1.item()}
        if weights.l2:
            nll = nll + weights.l2 * F.mse_loss(reconstruction, image)
        if isinstance(self.perceptual, nn.Module):
            distance = self.perceptual.to(image.device)(image, reconstruction).mean()
        elif self.perceptual == "features":
            distance = feature_matching(self.frozen_discriminator(accelerator), image, reconstruction)
        if self.perceptual is not None:
            nll = nll + weights.perceptual_weight * distance
            parts["perceptual"] = distance.item()
        ramp = min(1.0, max(0.0, (step - weights.adversarial_start + 1) / max(1, weights.adversarial_ramp)))
        if weights.adversarial_weight <= 0:
            return nll, parts
        parts |= {"adversarial": 0.0, "lambda": 0.0}
        if ramp == 0:
            return nll, parts
        adversarial = -self.frozen_discriminator(accelerator)(reconstruction).mean()
        last_layer = accelerator.unwrap_model(self.modules["model"]).decoder.conv_out.weight
        weight = adaptive_weight(nll, adversarial, last_layer, weights.adversarial_weight)
        parts |= {"adversarial": adversarial.item(), "lambda": weight.item()}
        return nll + ramp * weight * adversarial, parts

    def frozen_discriminator(self, accelerator: Accelerator) -> PatchDiscriminator:
        """The bare discriminator, passing gradients to the picture but keeping none itself."""
        return accelerator.unwrap_model(self.modules["discriminator"]).requires_grad_(False)

    def discriminator_step(
        self, images: list[Tensor], reconstructions: list[Tensor], accelerator: Accelerator
    ) -> float:
        """Teach the discriminator real from made; its mean hinge loss."""
        discriminator = self.modules["discriminator"]
        accelerator.unwrap_model(discriminator).requires_grad_(True)
        total = 0.0
        for image, reconstruction in zip(images, reconstructions, strict=True):
            loss = hinge_loss(discriminator(image), discriminator(reconstruction))
            accelerator.backward(loss / len(images))
            total += loss.item() / len(images)
        self.update(discriminator, "discriminator", accelerator)
        return total

    def update(self, module: nn.Module, name: str, accelerator: Accelerator) -> None:
        """Clip, step and clear one optimizer."""
        accelerator.clip_grad_norm_(module.parameters(), self.run.loop.clip)
        self.optimizers[name].step()
        self.optimizers[name].zero_grad()

    def update_codebook(
        self, codebook: nn.Module, latents: Tensor, step: int, generator: torch.Generator, accelerator: Accelerator
    ) -> None:
        """Move the codes (EMA) and restart those unused since the last restart, alike on all processes."""
        every = self.run.loss.restart_every
        restart_now = every > 0 and (step + 1) % every == 0
        if self.run.model.codebook == "ema" or restart_now:
            rows = as_rows(accelerator.gather(latents.contiguous()))
        if self.run.model.codebook == "ema":
            codebook.ema_update(rows)
        dead = (self.extra_state["counts"] == 0).to(latents.device)
        if restart_now and dead.any() and step < 0.9 * self.run.loop.steps:
            codebook.restart_codes(dead, rows, generator)

    def validate(self) -> dict[str, float]:
        """PSNR, SSIM and codebook use of the averaged weights on the held-out pictures."""
        return evaluate_vqgan(self.kept(), self.held_out, self.run.loop.batch)

    def preview(self) -> dict[str, Tensor]:
        """Held-out pictures above their reconstructions."""
        return {"reconstruction": reconstruction_strip(self.kept(), self.held_out)}

    def kept(self) -> VQGAN:
        """The averaged weights; of a blend, on the way to them from those it started from. Half-way an adversary's
        crispness costs few artefacts (network interpolation, Wang et al. 2018, section 3.4 of ESRGAN)."""
        if not self.start:
            return self.averaged.module
        model = copy.deepcopy(self.averaged.module)
        for name, tensor in model.decoder.state_dict().items():
            tensor.lerp_(self.start[name].to(tensor), 1 - self.run.blend)
        return model

    def health(self, report: dict[str, float]) -> str:
        """The state of the codebook and the adversary in words."""
        if not self.extra_state["last_counts"].any():
            return "codes are still being counted"
        dead = report["dead_codes"] / self.run.model.codebook_size
        restart = "restart is on" if self.run.loss.restart_every else "set loss.restart_every to revive them"
        words = [f"{dead:.0%} of codes dead: {restart}" if dead > 0.005 else "all codes in use"]
        if report.get("discriminator", 1.0) < 0.05:
            words.append("the discriminator wins too easily: lower loss.adversarial_weight")
        return "; ".join(words)

    def export(self, folder: Path) -> Path:
        """The averaged weights as `vqgan.safetensors`."""
        path = folder / "vqgan.safetensors"
        save_vqgan(path, self.kept(), trained_on=self.run.data.folder)
        return path


def load_start(model: VQGAN, path: str) -> None:
    """The weights of a VQGAN file or released checkpoint; ValueError if they are for another shape of model."""
    weights = load_vqgan(path).state_dict()
    sums = {n: tuple(t.shape) for n, t in model.state_dict().items() if ".ema_" in n}  # no file holds them
    check_shapes(model, {n: tuple(t.shape) for n, t in weights.items()} | sums, f"start_from {path}")
    model.load_state_dict(weights, strict=False)


def choose_perceptual(loss: VQGANLossConfig) -> nn.Module | str | None:
    """LPIPS, "features" or None, as configured and possible; a fallback is always said aloud."""
    if loss.perceptual == "none" or loss.perceptual == "features":
        return None if loss.perceptual == "none" else "features"
    try:
        return build_lpips()
    except PerceptualLossUnavailable as error:
        if loss.perceptual == "lpips":
            raise ValueError(
                f"{error}, or set `perceptual: features` to use the discriminator's features instead "
                "(`lpips-or-features` to do so by itself)"
            ) from error
        logger.warning("%s: using discriminator feature matching instead", error)
        return "features"


@torch.inference_mode()
def evaluate_vqgan(model: VQGAN, held_out: ImageViews, batch: int) -> dict[str, float]:
    """Mean PSNR (dB), its worst, mean SSIM, and codebook usage and perplexity over the held-out pictures; of edges also
    how the lines it draws lie on those given (`edge_f1`)."""
    device = next(model.parameters()).device
    counts = torch.zeros(model.config.codebook_size)
    quality, similarity, lines = [], [], []
    for views in once(held_out, batch):
        given, wanted = (image.to(device) for image in input_and_target(views, held_out.config.picture))
        out = model(given)
        counts += torch.bincount(out.quantized.indices.flatten().cpu(), minlength=len(counts))
        quality.append(psnr(wanted, out.image).cpu())
        similarity.append(ssim(wanted, out.image).cpu())
        if held_out.config.picture == "edges":
            lines.append(edge_agreement(out.image, given))
    statistics = codebook_usage(counts)
    quality = torch.cat(quality)
    figures = {
        "psnr": quality.mean().item(),
        "worst_psnr": quality.min().item(),
        "ssim": torch.cat(similarity).mean().item(),
        "usage": statistics.usage,
        "perplexity": statistics.perplexity,
    }
    return figures | ({"edge_f1": torch.cat(lines).mean().item()} if lines else {})


@torch.inference_mode()
def reconstruction_strip(model: VQGAN, held_out: ImageViews) -> Tensor:
    """Some held-out pictures in the upper row, what the model makes of them below: [3, 2H, N*W]."""
    picture = held_out.config.picture
    given = torch.stack([held_out[0, i][picture] for i in evenly_spaced(len(held_out), PREVIEW_IMAGES)])
    made = model(given.to(next(model.parameters()).device)).image.cpu()
    return image_grid(torch.cat([given, made]), len(given))


def evenly_spaced(length: int, number: int) -> list[int]:
    """`number` indices evenly over 0..length-1 (fewer if there are fewer)."""
    number = min(length, number)
    return [i * length // number for i in range(number)]


def add(total: dict[str, float], parts: dict[str, float], weight: float) -> None:
    """total += weight * parts, by name."""
    for name, value in parts.items():
        total[name] = total.get(name, 0.0) + weight * value


def train_vqgan(run: VQGANRun) -> bool:
    """Train or resume one first stage; True when finished, False when stopped early."""
    accelerator = make_accelerator(run.loop)
    train_set, held_out = load_split(run.data)
    task = VQGANTask(run, ImageViews(held_out, run.data, run.loop.seed, augment=False))
    views = ImageViews(train_set, run.data, run.loop.seed, augment=True)

    def stream(start: int) -> Any:
        return endless(
            views, run.loop.seed, run.loop.batch, start, run.data.workers,
            accelerator.process_index, accelerator.num_processes,
        )  # fmt: skip

    return train(task, stream, run.loop, Path(run.output), accelerator)
