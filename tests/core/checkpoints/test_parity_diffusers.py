"""VQModels of diffusers equal that library's: latents, codes, pictures; tests/golden/README.md says how made."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tessera.core.autoencoders.vqgan import VQGAN
from tessera.core.checkpoints.reader import open_checkpoint
from tessera.core.checkpoints.taming import released_vqgan
from tessera.tests.core.checkpoints.layouts.diffusers_layout import diffusers_shapes, older_names
from tessera.tests.core.checkpoints.layouts.original_layout import fill
from tessera.tests.core.checkpoints.layouts.released_shapes import DIFFUSERS, diffusers_input

GOLDEN = load_file(Path(__file__).parent.parent.parent / "golden" / "diffusers.safetensors")
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-6}  # the golden numbers are rounded from float64


def load(path: Path, name: str, older: bool) -> VQGAN:
    state = fill(diffusers_shapes(**DIFFUSERS[name]))
    file = path / "diffusion_pytorch_model.safetensors"
    save_file(older_names(state) if older else state, file)
    return released_vqgan(open_checkpoint(file))


@torch.no_grad()
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", DIFFUSERS)
@pytest.mark.parametrize("older", [False, True], ids=["new names", "older names"])
def test_vqmodel_equals_that_of_diffusers(tmp_path, name, older, dtype):
    vqgan = load(tmp_path, name, older).to(dtype)
    out = vqgan(diffusers_input(name).to(dtype))
    assert torch.equal(out.quantized.indices.int(), GOLDEN[f"{name}.indices"].view_as(out.quantized.indices))
    for found, part in ((out.latents, "latents"), (out.image, "picture"), (out.quantized.loss, "loss")):
        torch.testing.assert_close(found, GOLDEN[f"{name}.{part}"].to(dtype), atol=TOLERANCE[dtype], rtol=0)
