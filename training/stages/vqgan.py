"""The first stage: train a VQGAN to reconstruct pictures (section 3.1, arXiv eq. 4; adversary arXiv eq. 5)."""

import copy
import itertools
import logging
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from ...core.autoencoders.discriminator import (
    DiscriminatorConfig,
    PatchDiscriminator,
    adaptive_weight,
    feature_matching,
    hinge_loss,
)
from ...core.autoencoders.discriminator_file import Realism, save_discriminator
from ...core.autoencoders.dvae import DVAEConfig
from ...core.autoencoders.nearest import as_rows
from ...core.autoencoders.quantizers import QuantizerLosses, VectorQuantizer, codebook_usage
from ...core.autoencoders.two_level import TwoLevel, TwoLevelConfig
from ...core.autoencoders.vqgan import VQGAN, Reconstruction, VQGANConfig
from ...core.autoencoders.vqgan_file import DECODES, save_vqgan
from ...core.images.lpips import PerceptualLossUnavailable, build_lpips
from ...core.images.metrics import percentiles
from ...core.loading import load_vqgan
from ...core.storage.model_file import check_shapes
from ..config.runs import VQGANLossConfig, VQGANRun
from ..data.drawings import load_drawings, read_captions
from ..data.folder import ImageViews
from ..data.pictures import open_pictures
from ..data.scenes import Painter, WholeDrawings
from ..data.views import input_and_target
from ..engine.distributed import synchronized_once
from ..engine.ema import make_ema
from ..engine.lock import locked_folder
from ..engine.loop import make_accelerator, train
from ..engine.update import descend
from .dvae import DVAETask
from .image_terms import image_terms
from .judge import JudgeTask
from .reconstructions import evaluate_vqgan, realism_of_held_out, reconstruction_strip, uses_of

logger = logging.getLogger("tessera")


class VQGANTask:
    """Losses, dead-code restart and validation of the first stage; see `loop.Task`.

    Args:
        painter: paints the images to learn from, in the place of those that a step is given.
    """

    def __init__(self, run: VQGANRun, held_out: ImageViews | WholeDrawings, painter: Painter | None = None):
        self.run, self.held_out, self.painter = run, held_out, painter
        model = build_stage(run.model, run.loss.quantizer)
        if run.start_from:
            load_start(model, run.start_from)
            for codebook in learned_by_distance(model):
                codebook.reset_ema()
        self.start = (
            {name: tensor.clone() for name, tensor in model.decoder.state_dict().items()} if run.blend < 1 else {}
        )
        if run.learn == "decoder":
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(name.startswith(DECODES))
        self.modules: dict[str, nn.Module] = {"model": model}
        self.perceptual = choose_perceptual(run.loss)
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizers = {"model": torch.optim.Adam(trained, betas=(0.5, 0.9), fused=True)}
        if run.loss.adversarial_weight > 0 or self.perceptual == "features":
            config = DiscriminatorConfig(
                image_channels=run.model.image_channels, channels=run.loss.discriminator_channels
            )
            self.discriminator = self.modules["discriminator"] = PatchDiscriminator(config)
            self.optimizers["discriminator"] = torch.optim.Adam(
                self.discriminator.parameters(), betas=(0.5, 0.9), fused=True
            )
        self.averaged = make_ema(model, run.loop.ema)
        self.stages: dict[str, str] = {}
        self.goal = ("labels_right" if run.loss.bce else "psnr", 1)
        if run.loss.adversarial_weight > 0:
            self.goal = None  # crispness costs decibels
        # uses of each code since the last restart, and in the stretch before it
        self.codes = sum(codebook.size for codebook in model.codebooks)
        self.extra_state = {name: torch.zeros(self.codes) for name in ("counts", "last_counts")}

    def step(self, batches: list[dict[str, Tensor]], step: int, accelerator: Accelerator) -> dict[str, Tensor]:
        """One update of encoder, codebook and decoder, then one of the discriminator."""
        pairs = [self.input_and_target(batch) for batch in batches]
        quantizes = step >= self.run.loss.quantize_start
        model = self.modules["model"]
        bare = accelerator.unwrap_model(model)
        codebooks = learned_by_distance(bare)
        generator = torch.Generator().manual_seed(self.run.loop.seed * 1_000_003 + step)
        if step == self.run.loss.quantize_start and not self.run.start_from and codebooks:
            with torch.no_grad(), accelerator.autocast():
                levels = [latents_of(bare(given, quantize=False)) for given, _ in pairs]
            for codebook, latents in zip(codebooks, joined(levels), strict=True):
                codebook.init_kmeans(as_rows(accelerator.gather(latents.contiguous())), generator)
        report: dict[str, Tensor] = {}
        reconstructions, levels, total = [], [], 0.0
        running = [(figure, figure.clone()) for figure in self.running_figures()]
        for given, wanted in synchronized_once(pairs, model):
            out = model(given, quantizes)
            loss, parts = self.model_loss(wanted, out.image, step, accelerator)
            loss = loss + out.quantized.loss.float()
            parts["codebook"] = out.quantized.loss.detach()
            accelerator.backward(loss / len(pairs))
            add(report, parts, 1 / len(pairs))
            total = total + loss.detach()
            reconstructions.append(out.image.detach())
            levels.append(latents_of(out))
            if quantizes:
                self.extra_state["counts"] += accelerator.reduce(uses_of(out.levels, bare.codebooks), "sum")
        _, made = descend(model, [self.optimizers["model"]], total, self.run.loop.clip, accelerator)
        if quantizes and codebooks and self.run.learn == "all":
            counts = self.extra_state["counts"].split([codebook.size for codebook in codebooks])
            for codebook, latents, uses in zip(codebooks, joined(levels), counts, strict=True):
                self.update_codebook(codebook, latents, uses, made, step, generator, accelerator)
        if "discriminator" in self.modules and step >= self.run.loss.discriminator_start:
            report["discriminator"], heeded = self.discriminator_step(
                [wanted for _, wanted in pairs], reconstructions, accelerator
            )
            made = made & heeded
        for figure, before in running:
            figure.copy_(torch.where(made, figure, before))
        if (step + 1) % (self.run.loss.restart_every or 50) == 0:
            self.extra_state["last_counts"].copy_(self.extra_state["counts"])
            self.extra_state["counts"].zero_()
        return report | {"made": made}

    def input_and_target(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What the model is shown and shall draw, painted anew where there is a painter."""
        if self.painter is None:
            return input_and_target(batch, self.run.data.picture)
        images = self.painter.paint(self.run.loop.batch).images * 2 - 1
        return images, images

    def statistics(self) -> dict[str, float]:
        """How the codes were used in the stretch before the last restart."""
        codes = codebook_usage(self.extra_state["last_counts"])
        return {"usage": codes.usage, "perplexity": codes.perplexity, "dead_codes": codes.dead}

    def running_figures(self) -> list[Tensor]:
        """What the discriminator's normalization notes of every batch it sees, of broken ones too."""
        return list(self.modules["discriminator"].buffers()) if "discriminator" in self.modules else []

    def model_loss(
        self, image: Tensor, reconstruction: Tensor, step: int, accelerator: Accelerator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Reconstruction, perceptual and adversarial terms and their values by name: with the codebook's loss, arXiv
        eq. 6, L_VQ + lambda L_GAN, where lambda (`adaptive_weight`) is eq. 7."""
        weights = self.run.loss
        reconstruction = reconstruction.float()
        l1 = (reconstruction - image).abs().mean()
        nll = weights.l1 * l1
        parts = {"l1": l1.detach()}
        if weights.l2:
            nll = nll + weights.l2 * F.mse_loss(reconstruction, image)
        for name, term in image_terms(weights, image, reconstruction, self.run.model.stride).items():
            nll = nll + term
            parts[name] = term.detach()
        if weights.bce:
            bce = F.binary_cross_entropy_with_logits(reconstruction, image)
            nll = nll + weights.bce * bce
            parts["bce"] = bce.detach()
        if isinstance(self.perceptual, nn.Module):
            distance = self.perceptual.to(image.device)(image, reconstruction).mean()
        elif self.perceptual == "features":
            distance = feature_matching(self.frozen_discriminator(accelerator), image, reconstruction)
        if self.perceptual is not None:
            nll = nll + weights.perceptual_weight * distance
            parts["perceptual"] = distance.detach()
        ramp = min(1.0, max(0.0, (step - weights.adversarial_start + 1) / max(1, weights.adversarial_ramp)))
        if weights.adversarial_weight <= 0:
            return nll, parts
        parts |= {"adversarial": torch.zeros_like(l1), "lambda": torch.zeros_like(l1)}
        if ramp == 0:
            return nll, parts
        adversarial = -self.frozen_discriminator(accelerator)(reconstruction).mean()
        last_layer = accelerator.unwrap_model(self.modules["model"]).decoder.conv_out.weight
        weight = adaptive_weight(nll, adversarial, last_layer, weights.adversarial_weight)
        parts |= {"adversarial": adversarial.detach(), "lambda": weight}
        return nll + ramp * weight * adversarial, parts

    def frozen_discriminator(self, accelerator: Accelerator) -> PatchDiscriminator:
        """The bare discriminator, passing gradients to the picture but keeping none itself."""
        return accelerator.unwrap_model(self.modules["discriminator"]).requires_grad_(False)

    def discriminator_step(
        self, images: list[Tensor], reconstructions: list[Tensor], accelerator: Accelerator
    ) -> tuple[Tensor, Tensor]:
        """Teach the discriminator real from made; its mean hinge loss, and whether that was finite."""
        discriminator, total = self.modules["discriminator"], 0.0
        accelerator.unwrap_model(discriminator).requires_grad_(True)
        pairs = list(zip(images, reconstructions, strict=True))
        for image, reconstruction in synchronized_once(pairs, discriminator):
            loss = hinge_loss(discriminator(image), discriminator(reconstruction))
            accelerator.backward(loss / len(pairs))
            total = total + loss.detach() / len(pairs)
        _, made = descend(discriminator, [self.optimizers["discriminator"]], total, self.run.loop.clip, accelerator)
        return total, made

    def update_codebook(
        self,
        codebook: nn.Module,
        latents: Tensor,
        uses: Tensor,
        made: Tensor,
        step: int,
        generator: torch.Generator,
        accelerator: Accelerator,
    ) -> None:
        """Move the codes (EMA) and restart those unused since the last restart, alike on all processes; not by latents
        of a step that was not made."""
        every = self.run.loss.restart_every
        restart_now = every > 0 and (step + 1) % every == 0
        if self.run.model.codebook == "ema" or restart_now:
            rows = as_rows(accelerator.gather(latents.contiguous()))
        if self.run.model.codebook == "ema":
            codebook.ema_update(rows, made)
        dead = uses == 0
        if restart_now and made and dead.any() and step < 0.9 * self.run.loop.steps:
            codebook.restart_codes(dead, rows, generator)

    def validate(self) -> dict[str, float]:
        """PSNR, SSIM and codebook use of the averaged weights on the held-out pictures."""
        return evaluate_vqgan(self.kept(), self.held_out, self.run.loop.batch)

    def preview(self) -> dict[str, Tensor]:
        """Held-out pictures above their reconstructions."""
        return {"reconstruction": reconstruction_strip(self.kept(), self.held_out)}

    def kept(self) -> VQGAN | TwoLevel:
        """The averaged weights; of a blend, on the way to them from those it started from. Half-way an adversary's
        crispness costs few artifacts (network interpolation, Wang et al. 2018, section 3.4 of ESRGAN)."""
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
        dead = report["dead_codes"] / self.codes
        restart = "restart is on" if self.run.loss.restart_every else "set loss.restart_every to revive them"
        words = [f"{dead:.0%} of codes dead: {restart}" if dead > 0.005 else "all codes in use"]
        if report.get("discriminator", 1.0) < 0.05:
            words.append("the discriminator wins too easily: lower loss.adversarial_weight")
        return "; ".join(words)

    def export(self, folder: Path) -> Path:
        """The averaged weights as `vqgan.safetensors`; beside it the discriminator, with what it says of held-out
        reconstructions, as `discriminator.safetensors`."""
        path, trained_on = folder / "vqgan.safetensors", self.run.data.folder
        save_vqgan(path, self.kept(), trained_on=trained_on)
        if "discriminator" in self.modules:
            save_discriminator(folder / "discriminator.safetensors", self.judge(), trained_on=trained_on)
        return path

    def judge(self) -> Realism:
        """The discriminator for use, with its table."""
        judge = PatchDiscriminator(self.discriminator.config).to(self.discriminator.device).eval()
        judge.load_state_dict(self.discriminator.state_dict())
        return Realism(judge, percentiles(realism_of_held_out(judge, self.kept(), self.held_out)[1]))


def build_stage(config: VQGANConfig | TwoLevelConfig, losses: QuantizerLosses) -> VQGAN | TwoLevel:
    """A first stage with its first weights."""
    return TwoLevel(config, losses) if isinstance(config, TwoLevelConfig) else VQGAN(config, losses)


def learned_by_distance(model: VQGAN | TwoLevel) -> list[VectorQuantizer]:
    """Its codebooks, but not one that a choice is drawn from."""
    return [codebook for codebook in model.codebooks if isinstance(codebook, VectorQuantizer)]


def latents_of(out: Reconstruction) -> list[Tensor]:
    """What each codebook was given."""
    return [latents.detach().float() for latents, _ in out.levels]


def joined(levels: list[list[Tensor]]) -> list[Tensor]:
    """Of all micro-batches together, for each codebook."""
    return [torch.cat(parts) for parts in zip(*levels, strict=True)]


def load_start(model: VQGAN | TwoLevel, path: str) -> None:
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


def add(total: dict[str, Tensor], parts: dict[str, Tensor], weight: float) -> None:
    """total += weight * parts, by name."""
    for name, value in parts.items():
        total[name] = weight * value + total.get(name, 0.0)


def train_vqgan(run: VQGANRun) -> bool:
    """Train or resume one first stage; True when finished, False when stopped early."""
    accelerator = make_accelerator(run.loop)
    with locked_folder(run.output) as folder:
        return train_vqgan_in(folder, run, accelerator)


def train_vqgan_in(folder: Path, run: VQGANRun, accelerator: Accelerator) -> bool:
    """`train_vqgan` where nobody else writes."""
    if run.scenes:
        drawings, learned, held_out = load_named_drawings(run)
        device = accelerator.device
        task = VQGANTask(run, held_out, Painter(drawings.to(device), run.scenes, learned.to(device)))
        return train(task, lambda start: itertools.repeat({}), run.loop, folder, accelerator)  # painted in the step
    pictures = open_pictures(run.data, run.loop.seed, run.output, run.condition)
    task = task_of(run, pictures.held_out)
    task.extra_state |= pictures.state()

    def stream(start: int) -> Any:
        return pictures.batches(start, run.loop.batch, task.extra_state)

    return train(task, stream, run.loop, folder, accelerator)


def task_of(run: VQGANRun, held_out: ImageViews) -> VQGANTask | DVAETask | JudgeTask:
    """What the run trains."""
    if run.learn == "discriminator":
        return JudgeTask(run, held_out)
    return DVAETask(run, held_out) if isinstance(run.model, DVAEConfig) else VQGANTask(run, held_out)


def load_named_drawings(run: VQGANRun) -> tuple[Tensor, Tensor, WholeDrawings]:
    """All drawings [N, 4, S, S] uint8, the numbers of those to paint scenes of, and the others, held out."""
    captions = read_captions(run.data.folder)
    drawings = load_drawings(
        run.data.folder, captions, run.data.size, Path(run.output) / f"drawings-{run.data.size}.npy"
    )
    held_out = torch.tensor([caption.held_out for caption in captions])
    return drawings, torch.where(~held_out)[0], WholeDrawings(drawings[held_out], run.data)
