import os

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


def test_two_writers_of_one_file_leave_the_whole_of_one(tmp_path):
    target = tmp_path / "note.txt"
    with atomic_write(target) as first:
        first.write_text("first")
        with atomic_write(target) as second:
            assert second != first
            second.write_text("second, and longer")
        assert target.read_text() == "second, and longer"
    assert target.read_text() == "first"
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_killed_writer_left_is_removed_and_what_another_writes_is_not(tmp_path):
    target = tmp_path / "a[1].txt"
    left, beside = tmp_path / ".a[1].7-0badcafe.partial.txt", tmp_path / ".a[1]b.7-0badcafe.partial.txt"
    for path in (left, beside):
        path.touch()
        os.utime(path, (0, 0))
    with atomic_write(target) as partial:
        partial.touch()
        os.utime(partial)
        with atomic_write(target) as other:
            other.write_text("whole")
        assert partial.exists()
    assert set(tmp_path.iterdir()) == {target, beside}


def test_contents_are_on_the_disk_before_they_take_the_place(tmp_path, monkeypatch):
    order = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (order.append("sync"), sync(handle)))
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("replace"), replace(a, b)))
    with atomic_write(tmp_path / "note.txt") as partial:
        partial.write_text("whole")
    assert order[:2] == ["sync", "replace"]


def test_a_link_stays_one_and_what_it_points_to_is_written(tmp_path):
    target, link = tmp_path / "large disk" / "state.pt", tmp_path / "state.pt"
    target.parent.mkdir()
    link.symlink_to(target)
    with atomic_write(link) as partial:
        partial.write_text("whole")
    assert link.is_symlink()
    assert target.read_text() == "whole"


@pytest.fixture
def full_disk():
    """As if the disk were full after 100 kB of a file."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("name", ["state.pt", "model.safetensors", "rows.csv"])
def test_a_full_disk_is_the_systems_error_whoever_writes(tmp_path, name):
    tensors = {"a": torch.zeros(100_000)}
    writers = {
        "state.pt": lambda path: torch.save(tensors, path),
        "model.safetensors": lambda path: save_file(tensors, path),
        "rows.csv": lambda path: path.write_bytes(bytes(400_000)),
    }
    with pytest.raises(OSError), atomic_write(tmp_path / name) as partial:  # noqa: PT011, the text is the system's
        writers[name](partial)
    assert not list(tmp_path.iterdir())
