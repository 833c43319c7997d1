"""Priors equal the original's: logits in three ways, likelihood, warping; tests/golden/README.md says how made."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tessera.core.checkpoints.reader import open_checkpoint
from tessera.core.checkpoints.taming import released_bundle
from tessera.core.prefix import Prefix
from tessera.core.priors.transformer import Transformer
from tessera.tests.core.checkpoints.layouts.original_layout import write_lightning
from tessera.tests.core.checkpoints.layouts.released_shapes import prior_state, tokens

GOLDEN = load_file(Path(__file__).parent.parent.parent / "golden" / "priors.safetensors")
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-6}  # the golden numbers are rounded from float64
CELLS = [0, 1, 15, 16, 17, 100, 254, 255]  # whose logits are recorded
CASES = [("coordinates", 0), ("class", 0), ("none", 0), ("layout", 0), ("coordinates", 256), ("layout", 92)]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def loaded(request, tmp_path_factory) -> tuple[str, Transformer, torch.Tensor, torch.Tensor]:
    """Name, prior from a file in the original's layout, prefix [2, P] and cells [2, 256]."""
    kind, unmasked = request.param
    path = tmp_path_factory.mktemp("parity") / "last.ckpt"
    write_lightning(path, prior_state(kind, unmasked))
    return f"{kind}-{unmasked}", released_bundle(open_checkpoint(path), None, kind).prior, *tokens(kind, unmasked)


@pytest.fixture(params=TOLERANCE, ids=str)
def case(request, loaded):
    """The same in either precision."""
    name, prior, prefix, cells = loaded
    return name, prior.to(request.param), prefix, cells


def equal(logits: torch.Tensor, name: str, cells: slice = slice(None)) -> None:
    """Logits [B, n, K] of the recorded cells, or of some of these."""
    golden = GOLDEN[f"{name}.logits"][:, cells].to(logits.dtype)
    torch.testing.assert_close(logits[: len(golden)], golden, atol=TOLERANCE[logits.dtype], rtol=0)


@torch.no_grad()
def test_logits_equal_the_original_s(case):
    name, prior, prefix, cells = case
    equal(prior(prefix, cells)[:, CELLS], name)


@torch.no_grad()
def test_logits_of_several_cells_at_a_time_equal_the_original_s(case):
    name, prior, prefix, cells = case
    logits, cache = prior.start(Prefix(prefix), cells[:, :0], room=CELLS[-1])
    found, decoder = [logits], prior.decoder()
    found += [decoder(cells[:, start:end], cache, last=1) for start, end in pairwise(CELLS)]
    equal(torch.cat(found, 1), name)


@torch.no_grad()
def test_logits_cell_by_cell_equal_the_original_s(case):
    name, prior, prefix, cells = case
    logits, cache = prior.start(Prefix(prefix), cells[:, :0], room=100)
    found, decoder = [logits], prior.decoder()
    found += [decoder(cells[:, i : i + 1], cache) for i in range(100)]
    recorded = [cell for cell in CELLS if cell <= 100]
    equal(torch.cat([found[cell] for cell in recorded], 1), name, slice(len(recorded)))


@torch.no_grad()
def test_likelihood_equals_the_original_s(case):
    name, prior, prefix, cells = case
    nll = prior.loss(prefix, cells)
    assert nll.item() == pytest.approx(GOLDEN[f"{name}.nll"].item(), abs=1e-5)
