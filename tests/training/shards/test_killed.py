"""kill -9 just before and just after a file gets its name: the same command goes on, to the same bytes."""

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tessera.__main__ import main
from tessera.training.data import views as views_module
from tessera.training.engine.loop import make_accelerator
from tessera.training.shards.manifest import read_manifest
from tessera.training.stages.prior import load_codes, load_stages, load_views

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is forked to be killed")


def in_a_process_of_its_own(work: Callable[[], object], killed_at: int = -1, after: bool = False) -> bool:
    """Whether `work` came to its end; it is killed when the file number `killed_at`, from 0, gets its name."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        return not os.WIFSIGNALED(status)
    failed = 1
    try:
        replace, seen = os.replace, itertools.count()

        def replace_or_die(*paths):
            due = next(seen) == killed_at
            if due and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(*paths)
            if due:
                os.kill(os.getpid(), signal.SIGKILL)

        os.replace = replace_or_die
        work()
        failed = 0
    finally:
        os._exit(failed)


def goes_on_from_anywhere(work: Callable[[Path], object], content: Callable[[Path], dict], folder: Path) -> None:
    """Kill `work` in a folder at each of its files in turn; what it makes then is what it makes undisturbed."""
    assert in_a_process_of_its_own(lambda: work(folder / "whole"))
    wanted = content(folder / "whole")
    assert wanted
    for number in itertools.count():
        out = folder / f"killed-{number}"
        if in_a_process_of_its_own(lambda out=out: work(out), number, after=bool(number % 2)):
            break
        assert in_a_process_of_its_own(lambda out=out: work(out))
        assert content(out) == wanted
    assert number > 4


def tars_of(folder: Path) -> dict[str, bytes]:
    listed = read_manifest((folder / "manifest.json").read_bytes(), "")
    assert {path.name for path in folder.glob("*.tar")} == {shard.name for shard in listed}
    return {shard.name: (folder / shard.name).read_bytes() for shard in listed}


def test_writing_shards_goes_on_after_being_killed_anywhere(tmp_path):
    for number in range(6):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), (number * 40, 0, 0)).save(tmp_path / "pictures" / f"{number}.png")
    options = ("--pictures", "3", "--validation", "0.3", "--workers", "1")
    goes_on_from_anywhere(
        lambda out: main(["data", "shard", str(tmp_path / "pictures"), str(out), *options]), tars_of, tmp_path
    )


def test_encoding_goes_on_after_being_killed_anywhere(prior_run, tmp_path, monkeypatch):
    monkeypatch.setattr(views_module, "PART", 8)

    def encode(out: Path) -> None:
        run = prior_run(output=str(out), views=1)
        accelerator = make_accelerator(run.loop)
        load_codes(run, load_views(run), accelerator, *load_stages(run, accelerator))

    def codes_in(out: Path) -> dict[str, bytes]:
        assert not list(out.glob(".codes-*"))
        return {path.name: path.read_bytes() for path in out.glob("codes-*")}

    goes_on_from_anywhere(encode, codes_in, tmp_path)
