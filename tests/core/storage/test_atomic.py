import pytest
import torch
from safetensors.torch import save_file

from tessera.core.storage.atomic import atomic_write


def test_a_written_file_takes_its_place_and_folders_are_made_on_the_way(tmp_path):
    target = tmp_path / "new" / "note.txt"
    with atomic_write(target) as partial:
        assert partial.suffix == ".txt"
        partial.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("written", ["half", None])
def test_failing_leaves_what_was_there_and_nothing_else(tmp_path, written):
    target = tmp_path / "note.txt"
    target.write_text("old")

    def fail():
        with atomic_write(target) as partial:
            if written:
                partial.write_text(written)
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_whoever_may_read_new_files_may_read_this_one(tmp_path):
    plain, model = tmp_path / "plain", tmp_path / "model.safetensors"
    plain.touch()
    with atomic_write(model) as partial:
        save_file({"a": torch.zeros(1)}, partial)
    assert model.stat().st_mode == plain.stat().st_mode


def test_writing_nothing_is_an_error_and_leaves_what_was_there(tmp_path):
    target = tmp_path / "note.txt"
    target.write_text("old")
    with pytest.raises(FileNotFoundError), atomic_write(target):
        pass
    assert target.read_text() == "old"
