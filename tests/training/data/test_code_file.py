"""A file of codes that is filled part by part."""

import numpy as np
import pytest
import torch

from tessera.core.storage.tensors import load_tensors
from tessera.training.data import code_file, codes
from tessera.training.data import views as views_module
from tessera.training.data.code_file import CodeFile
from tessera.training.engine.loop import make_accelerator
from tessera.training.stages.prior import load_codes, load_stages, load_views

PARTS = [range(0, 4), range(4, 8), range(8, 10)]


@pytest.mark.parametrize(("number", "dtype"), [(2**16, torch.uint16), (2**17, torch.int32)])
def test_parts_written_by_several_sessions_make_one_file(tmp_path, number, dtype):
    rng = np.random.default_rng(0)
    shapes = {"cells": (2, 10, 6), "condition": (2, 10, 0)}
    wanted = {name: rng.integers(0, number, shape) for name, shape in shapes.items()}

    def session() -> CodeFile:
        file = CodeFile(tmp_path / "codes.safetensors", shapes, number, {"format": "tessera/1", "kind": "codes"})
        file.create()
        return file

    def write(file: CodeFile, part: range) -> None:
        file.write(part, {name: codes[:, part.start : part.stop] for name, codes in wanted.items()})

    write(session(), PARTS[1])
    assert session().missing(PARTS) == [PARTS[0], PARTS[2]]
    file = session()
    for part in file.missing(PARTS):
        write(file, part)
    file.finish()
    found, _ = load_tensors(tmp_path / "codes.safetensors", "codes", set(shapes))
    assert found["cells"].dtype == dtype
    for name in shapes:
        np.testing.assert_array_equal(found[name].long().numpy(), wanted[name])
    assert [path.name for path in tmp_path.iterdir()] == ["codes.safetensors"]


def test_encoding_that_was_stopped_goes_on_with_the_missing_parts(prior_run, tmp_path, monkeypatch):
    monkeypatch.setattr(views_module, "PART", 4)
    run = prior_run()
    accelerator = make_accelerator(run.loop)
    stages, views = load_stages(run, accelerator), load_views(run)
    written, write = [], CodeFile.write

    def stop_after_two(self, part, tensors):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(part)
        write(self, part, tensors)

    monkeypatch.setattr(code_file.CodeFile, "write", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        load_codes(run, views, accelerator, *stages)
    assert not list((tmp_path / "prior").glob("codes-*"))
    monkeypatch.setattr(code_file.CodeFile, "write", lambda self, part, t: (written.append(part), write(self, part, t)))
    train_set, held_out = load_codes(run, views, accelerator, *stages)
    assert len(written) == -(-len(views[0]) // 4) + -(-len(views[1]) // 4)
    for dataset, some in ((train_set, views[0]), (held_out, views[1])):
        direct = codes.encode_views(some, len(dataset.cells), run, *stages)
        assert torch.equal(dataset.cells.int(), direct[0])
        assert torch.equal(dataset.condition.int(), direct[1])


def test_a_full_disk_stops_no_encoding(prior_run, monkeypatch, caplog):
    run = prior_run()
    accelerator = make_accelerator(run.loop)
    stages, views = load_stages(run, accelerator), load_views(run)

    def full(self) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(code_file.CodeFile, "create", full)
    train_set, _ = load_codes(run, views, accelerator, *stages)
    assert train_set.cells.shape == (2, len(views[0]), 64)
    assert "the next run encodes the pictures anew" in caplog.text
