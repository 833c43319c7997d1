"""Priors whose weights, moments and averages are dealt out to several processes."""

import pytest
from safetensors.torch import load_file

from tessera.core.loading import load
from tessera.training.engine.log import read_csv
from tessera.training.stages.prior import train_prior
from tessera.training.stages.vqgan import train_vqgan

LOOP = {"validate_every": 1, "save_every": 1, "warmup": 0, "final_learning_rate": 1.0}


@pytest.mark.slow
def test_two_processes_learn_what_one_does_and_one_goes_on_from_their_state(
    prior_tree, prior_run, write_yaml, start_two, tmp_path
):
    changes = {"pkeep": 1.0, "condition": {"kind": "none"}, "views": 1}
    whole = prior_run(**changes, output=str(tmp_path / "whole"), loop=LOOP | {"steps": 4, "batch": 4})
    assert train_prior(whole)
    dealt = changes | {"output": str(tmp_path / "parts")}
    config = write_yaml(prior_tree(**dealt, loop=LOOP | {"steps": 2, "batch": 2, "sharded": True}))
    for process in start_two("train", "prior", config):
        said = process.communicate(timeout=120)[0]
        assert process.returncode == 0, said
    parts = sorted(path.name for path in (tmp_path / "parts").glob("*.parts"))
    assert parts == ["state-00000001.parts", "state-00000002.parts"]
    assert len(list((tmp_path / "parts" / parts[1]).glob("*.distcp"))) == 2  # each process wrote its own

    assert train_prior(prior_run(**dealt, loop=LOOP | {"steps": 4, "batch": 4, "sharded": True}))
    wanted, found = (read_csv(tmp_path / name / "validation.csv") for name in ("whole", "parts"))
    assert found["step"] == [1, 2, 3, 4]
    assert found["nll"] == pytest.approx(wanted["nll"], rel=1e-5)
    assert len(set(found["nll"])) == 4
    files = [load_file(tmp_path / name / "prior.safetensors") for name in ("whole", "parts")]
    assert files[0].keys() == files[1].keys()
    assert load(tmp_path / "parts" / "bundle.safetensors").prior.config.layers == 1


def test_what_can_not_be_dealt_out_is_refused(tiny_run, prior_run):
    with pytest.raises(ValueError, match=r"loop\.sharded is true, which is for priors of kind transformer"):
        train_vqgan(tiny_run(loop={"sharded": True}))
    with pytest.raises(ValueError, match=r"loop\.sharded does not go with loop\.compile or loop\.precision fp16"):
        prior_run(loop={"sharded": True, "precision": "fp16"})
