"""First stages equal the original's: latents, codes, pictures and losses; tests/golden/README.md says how made."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from tessera.core.autoencoders.quantizers import QuantizerLosses
from tessera.core.autoencoders.vqgan import VQGAN
from tessera.core.checkpoints.reader import open_checkpoint
from tessera.core.checkpoints.taming import released_vqgan
from tessera.tests.core.checkpoints.layouts.original_layout import fill, vqgan_shapes, write_lightning
from tessera.tests.core.checkpoints.layouts.released_shapes import FIRST_STAGES, first_stage_input

GOLDEN = load_file(Path(__file__).parent.parent.parent / "golden" / "first_stages.safetensors")
# The golden numbers are rounded from float64, so in float64 only that rounding is left
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-6}


@pytest.fixture(scope="module", params=FIRST_STAGES)
def loaded(request, tmp_path_factory) -> tuple[str, VQGAN]:
    """A first stage's name and our model with its weights, loaded from a file in the original's layout."""
    path = tmp_path_factory.mktemp("parity") / "last.ckpt"
    write_lightning(path, fill(vqgan_shapes(**FIRST_STAGES[request.param])))
    return request.param, released_vqgan(open_checkpoint(path))


@pytest.fixture(params=TOLERANCE, ids=str)
def case(request, loaded) -> tuple[str, VQGAN, torch.dtype]:
    """The same in either precision."""
    name, vqgan = loaded
    return name, vqgan.to(request.param), request.param


def equal(found: torch.Tensor, name: str, part: str) -> None:
    torch.testing.assert_close(found, GOLDEN[f"{name}.{part}"].to(found.dtype), atol=TOLERANCE[found.dtype], rtol=0)


@torch.no_grad()
def test_latents_equal_the_original_s(case):
    name, vqgan, dtype = case
    equal(vqgan.encode(first_stage_input(name).to(dtype)), name, "latents")


@torch.no_grad()
def test_codes_are_the_original_s(case):
    name, vqgan, dtype = case
    assert torch.equal(vqgan.encode_indices(first_stage_input(name).to(dtype)).int(), GOLDEN[f"{name}.indices"])


@torch.no_grad()
def test_pictures_equal_the_original_s(case):
    name, vqgan, _ = case
    made = vqgan.decode_indices(GOLDEN[f"{name}.indices"].long())
    equal(made[:, ::16] if "segmentation" in name else made, name, "picture")


@torch.no_grad()
def test_codebook_losses_equal_the_original_s(case):
    name, vqgan, dtype = case
    if name.startswith("gumbel"):  # weights of losses belong to a run, not to a file
        vqgan.codebook.losses = QuantizerLosses(kl_weight=1e-8)
    loss = vqgan.quantize(GOLDEN[f"{name}.latents"].to(dtype)).loss
    torch.testing.assert_close(loss, GOLDEN[f"{name}.loss"].to(dtype), atol=0, rtol=1e-5)  # Gumbel's is tiny


@torch.no_grad()
@pytest.mark.parametrize("loaded", [n for n in FIRST_STAGES if "segmentation" in n], indirect=True)
def test_segmentation_losses_equal_the_original_s(case):
    name, vqgan, dtype = case
    labels = first_stage_input(name).to(dtype)
    out = vqgan(labels)
    bce = F.binary_cross_entropy_with_logits(out.image, labels)
    equal(bce, name, "bce")
    equal(bce + out.quantized.loss, name, "total")
