"""Losses of the first stage equal the original's, without LPIPS, whose weights don't come with the package.

tests/golden/README.md says how made.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tessera.core.autoencoders.discriminator import (
    DiscriminatorConfig,
    PatchDiscriminator,
    adaptive_weight,
    hinge_loss,
)
from tessera.core.autoencoders.quantizers import QuantizerLosses
from tessera.core.autoencoders.vqgan import VQGAN
from tessera.core.checkpoints.reader import open_checkpoint
from tessera.core.checkpoints.taming import released_vqgan
from tessera.tests.core.checkpoints.layouts.original_layout import (
    discriminator_shapes,
    fill,
    picture,
    prefixed,
    vqgan_shapes,
    write_lightning,
)

GOLDEN = load_file(Path(__file__).parent.parent.parent / "golden" / "losses.safetensors")
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-6}  # the golden numbers are rounded from float64
PICTURES = picture("losses", 2, 3, 48, 64)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """A first stage with the judge it was trained against."""
    return fill(vqgan_shapes() | prefixed("loss.discriminator", discriminator_shapes()))


@pytest.fixture(scope="module")
def vqgan(state, tmp_path_factory) -> VQGAN:
    """Loaded from a file in the original's layout, made ready to learn again."""
    path = write_lightning(tmp_path_factory.mktemp("parity") / "last.ckpt", state)
    model = released_vqgan(open_checkpoint(path)).train().requires_grad_()
    model.codebook.losses = QuantizerLosses(commitment_weight=1.0, codebook_weight=0.25)  # taming weighs the other term
    return model


def judge(state: dict[str, torch.Tensor], dtype: torch.dtype) -> PatchDiscriminator:
    """The released names after "loss.discriminator." are ours."""
    made = PatchDiscriminator(DiscriminatorConfig(channels=16))
    prefix = "loss.discriminator."
    made.load_state_dict({n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)})
    return made.to(dtype)


def equal(found: torch.Tensor, name: str) -> None:
    torch.testing.assert_close(found, GOLDEN[name].to(found.dtype), atol=TOLERANCE[found.dtype], rtol=0)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@torch.no_grad()
def test_logits_of_the_judge_equal_the_original_s(vqgan, state, dtype):
    vqgan, images = vqgan.to(dtype), PICTURES.to(dtype)
    made = vqgan(images).image
    for mode in ("training", "evaluation"):
        network = judge(state, dtype).train(mode == "training")
        equal(network(images), f"real.{mode}")
        network = judge(state, dtype).train(mode == "training")
        equal(network(made), f"made.{mode}")


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_losses_equal_the_original_s(vqgan, state, dtype):
    vqgan, images, network = vqgan.to(dtype), PICTURES.to(dtype), judge(state, dtype)
    out = vqgan(images)
    nll = (out.image - images).abs().mean()
    adversarial = -network(out.image).mean()
    weight = adaptive_weight(nll, adversarial, vqgan.decoder.conv_out.weight, scale=0.8)
    equal(nll.detach(), "nll")
    equal(out.quantized.loss.detach(), "quant")
    equal(adversarial.detach(), "g")
    equal(weight, "lambda")
    equal((nll + out.quantized.loss).detach(), "before.total")  # before disc_start
    equal((nll + weight * adversarial + out.quantized.loss).detach(), "after.total")
    with torch.no_grad():
        equal(hinge_loss(network(images), network(out.image)), "after.judge")


@pytest.mark.parametrize("when", ["before", "after"])
def test_gradients_equal_the_original_s(vqgan, state, when):
    # in float64: close to the kinks of ReLU and L1 the original's own float32 gradients are off by 1e-4
    vqgan, images = vqgan.double(), PICTURES.double()
    out = vqgan(images)
    total = (out.image - images).abs().mean()
    if when == "after":
        adversarial = -judge(state, torch.float64)(out.image).mean()
        total = total + adaptive_weight(total, adversarial, vqgan.decoder.conv_out.weight) * adversarial
    total = total + out.quantized.loss
    weights = (vqgan.encoder.conv_in.weight, vqgan.decoder.conv_out.weight, vqgan.codebook.embedding.weight)
    for name, gradient in zip(("encoder", "decoder", "codebook"), torch.autograd.grad(total, weights), strict=True):
        equal(gradient, f"{when}.gradient.{name}")
