"""A prior goes on with the codes of other VQGANs."""

import dataclasses
from pathlib import Path

import pytest
import torch

from tessera.core.autoencoders.vqgan_file import read_vqgan, save_vqgan
from tessera.core.bundle_file import load_bundle, save_bundle
from tessera.training.engine.loop import make_accelerator
from tessera.training.stages.prior import PriorTask, load_codes, load_stages, load_views, train_prior
from tessera.training.stages.transfer import EMBEDDING_AND_HEAD, code_cooccurrence, starting_weights


@pytest.fixture(params=["transformer", "llama"])
def prior_run(prior_run, request):
    model = {"kind": request.param, "layers": 1, "width": 32, "heads": 2}
    return lambda **changes: prior_run(**{"model": model, **changes})


@pytest.fixture
def learned_bundle(prior_run, tmp_path) -> str:
    """The file of a bundle whose prior has learned a little."""
    run = prior_run(loop={"steps": 40})
    assert train_prior(run)
    accelerator = make_accelerator(run.loop)
    stages, views = load_stages(run, accelerator), load_views(run)
    task = PriorTask(run, *load_codes(run, views, accelerator, *stages), *stages)
    task.averaged.module.load_state_dict(starting(run, str(Path(run.output) / "prior.safetensors")))
    save_bundle(tmp_path / "learned.safetensors", task.bundle())
    return str(tmp_path / "learned.safetensors")


def starting(run, file: str) -> dict[str, torch.Tensor]:
    run = dataclasses.replace(run, start_from=file)
    accelerator = make_accelerator(run.loop)
    stages, views = load_stages(run, accelerator), load_views(run)
    train_set, _ = load_codes(run, views, accelerator, *stages)
    return starting_weights(run, train_set, views[0], *stages, accelerator)


def held_out_nll(run, start: dict[str, torch.Tensor]) -> float:
    accelerator = make_accelerator(run.loop)
    stages = load_stages(run, accelerator)
    task = PriorTask(run, *load_codes(run, load_views(run), accelerator, *stages), *stages, start)
    return task.validate()["nll"]


def shuffled(file: str, to: Path) -> str:
    """The VQGAN of a file with its codes in another order."""
    model = read_vqgan(file)
    order = torch.randperm(model.config.codebook_size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        model.codebook.embedding.weight.copy_(model.codebook.embedding.weight[order])
    save_vqgan(to, model)
    return str(to)


def test_a_prior_knows_the_codes_again_when_they_have_other_numbers(prior_run, stages, learned_bundle, tmp_path):
    old = prior_run()
    known = load_bundle(learned_bundle).prior.state_dict()
    reordered = dict(
        vqgan=shuffled(stages["vqgan"], tmp_path / "other.safetensors"),
        condition={"kind": "edges", "vqgan": shuffled(stages["edges"], tmp_path / "other-edges.safetensors")},
        output=str(tmp_path / "again"),
    )
    new = prior_run(**reordered)
    before = held_out_nll(old, known)
    assert held_out_nll(new, known) > before + 0.1, "these numbers mean something else to it"
    assert held_out_nll(new, starting(new, learned_bundle)) == pytest.approx(before, abs=0.03)


def test_of_the_same_vqgans_nothing_is_changed(prior_run, learned_bundle):
    known, carried = load_bundle(learned_bundle).prior.state_dict(), starting(prior_run(), learned_bundle)
    assert all(torch.equal(known[name], carried[name]) for name in known)


def test_larger_codebooks_make_room_for_all_their_codes(prior_run, stages, learned_bundle, tmp_path):
    large = read_vqgan(stages["edges"])
    rows = large.codebook.embedding.weight
    more = dataclasses.replace(large.config, codebook_size=24)
    larger = type(large)(more)
    near = torch.cat([rows, rows + 0.01, rows + 5])
    larger.load_state_dict({**large.state_dict(), "codebook.embedding.weight": near})
    save_vqgan(tmp_path / "larger.safetensors", larger)
    condition = {"kind": "edges", "vqgan": str(tmp_path / "larger.safetensors")}
    run = prior_run(condition=condition, output=str(tmp_path / "again"))
    known, carried = load_bundle(learned_bundle).prior.state_dict(), starting(run, learned_bundle)
    tokens, _ = EMBEDDING_AND_HEAD[type(load_bundle(learned_bundle).prior)]
    assert carried[tokens].shape[0] == 16 + 24
    assert held_out_nll(run, carried) == pytest.approx(held_out_nll(prior_run(), known), abs=0.1)


def test_another_number_of_cells_is_refused(prior_run, stages, learned_bundle, tmp_path, tiny_run):
    run = tiny_run(model={"channel_mult": [1, 1, 1], "codebook": "nearest"})
    torch.manual_seed(0)
    coarse = type(read_vqgan(stages["vqgan"]))(run.model)
    save_vqgan(tmp_path / "coarse.safetensors", coarse)
    other = prior_run(vqgan=str(tmp_path / "coarse.safetensors"), output=str(tmp_path / "again"))
    with pytest.raises(ValueError, match="makes 64 cells and 64 of the condition, the VQGANs of this run 16 and 64"):
        starting(other, learned_bundle)


def test_codes_inherit_in_proportion_to_where_they_are_found():
    old = torch.tensor([[0, 0, 1, 1, 1, 2]])
    new = torch.tensor([[3, 3, 3, 1, 1, 0]])
    shares = code_cooccurrence(old, new, 3, 4)
    torch.testing.assert_close(shares.sum(1), torch.ones(4))
    assert shares[3].argmax() == 0
    assert shares[3, 0] == pytest.approx(2 / 3, abs=0.02)
    assert shares[1, 1] > 0.95
    assert torch.allclose(shares[2], torch.tensor([2 / 6, 3 / 6, 1 / 6]), atol=1e-6), "never seen: as frequent as all"
