"""torch.compile as a switch."""

import functools
import importlib

import pytest
import torch
from torch import nn

from tessera.training.engine.compiling import check_compiler
from tessera.training.engine.log import read_csv
from tessera.training.stages.prior import train_prior


@pytest.mark.slow
def test_a_compiled_prior_learns_what_the_plain_one_does(prior_run, tmp_path, monkeypatch):
    """By the backend that writes no C++, which takes a minute; what is compiled is the same."""
    monkeypatch.setattr(nn.Module, "compile", functools.partialmethod(nn.Module.compile, backend="aot_eager"))
    try:
        check_compiler(torch.device("cpu"))
    except ValueError as error:
        pytest.skip(str(error))
    for name, compiled in (("plain", False), ("compiled", True)):
        loop = {"steps": 3, "validate_every": 1, "batch": 4, "compile": compiled}
        train_prior(prior_run(output=str(tmp_path / name), condition={"kind": "none"}, views=1, loop=loop))
    plain, compiled = (read_csv(tmp_path / name / "validation.csv")["nll"] for name in ("plain", "compiled"))
    assert compiled == pytest.approx(plain, rel=1e-5)
    assert read_csv(tmp_path / "compiled" / "train.csv")["mfu"][1] > 0
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 1  # of the check, and of the model


def test_without_a_compiler_a_run_ends_before_it_reads_pictures(prior_run, monkeypatch, tmp_path):
    torch._dynamo.reset()
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    importlib.import_module("torch._inductor.cpp_builder").cpp_compiler_search.cache_clear()
    with pytest.raises(ValueError, match=r"loop\.compile is true, but nothing can be compiled here .* or leave it out"):
        train_prior(prior_run(loop={"compile": True}))
    assert not (tmp_path / "prior").exists()
