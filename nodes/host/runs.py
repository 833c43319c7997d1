"""Training runs that nodes start: a folder each below ComfyUI's output, and a process of their own that outlives it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from ...core.storage.atomic import atomic_write
from ...core.storage.door import brief
from . import comfy

HOME = "training"  # where the folders are
NAME = re.compile(r"\w[\w -]{0,79}")
NEEDED = ("accelerate", "filelock", "fsspec", "matplotlib", "tqdm", "webdataset")  # by training alone
# the pack comes last on the path: other packs beside it must not stand in for the libraries it needs
START = "import runpy, sys; sys.path.append({!r}); runpy.run_module({!r}, run_name='__main__', alter_sys=True)"
WINDOWS = sys.platform == "win32"


@dataclass(frozen=True)
class Run:
    """A training run by its name; ValueError for a name that no folder should have."""

    name: str

    def __post_init__(self):
        if not NAME.fullmatch(self.name) or self.name.endswith(" "):
            raise ValueError(
                f"{brief(self.name)!r} can't be the name of a run; choose letters, digits, - and _, such as my-vqgan"
            )

    @property
    def folder(self) -> Path:
        """Settings, state, log and weights."""
        return comfy.output_folder() / HOME / self.name

    @property
    def log(self) -> Path:
        """What its process says."""
        return self.folder / "log.txt"

    @property
    def begun(self) -> bool:
        """Whether it was ever started."""
        return self._note.exists()

    @property
    def _note(self) -> Path:
        return self.folder / "process.json"

    def begin(self, stage: str, settings: dict[str, Any], more: str, result: Path) -> None:
        """Write down what is to be trained, and start.

        Args:
            stage: vqgan or prior.
            settings: of the run, as its YAML has them.
            more: further ones, a line each.
            result: where the weights go at the end.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "run.yaml"
        with atomic_write(path) as partial:
            partial.write_text(yaml.safe_dump({"output": str(self.folder), **settings}), encoding="utf-8")
        lines = [line.strip() for line in more.splitlines() if line.strip()]
        overrides = [part for line in lines for part in ("--set", line)]
        self._start(["train", stage, str(path), *overrides, "--install", str(result)])

    def go_on(self) -> None:
        """Start again what was stopped, or ended with ComfyUI's machine."""
        if not self.running:
            self._start(json.loads(self._note.read_text(encoding="utf-8"))["arguments"])

    def _start(self, arguments: list[str]) -> None:
        lacking = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        if lacking:
            raise ValueError(
                f"training needs packages that are not here; stop ComfyUI, then: {sys.executable} -m pip install "
                f"{' '.join(lacking)}"
            )
        comfy.free_memory()
        code = START.format(str(comfy.PACK.parent), comfy.PACK.name)
        apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if WINDOWS else {"start_new_session": True}
        on_cpu = {"ACCELERATE_USE_CPU": "true"} if comfy.works_on_cpu() else {}
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", code, *arguments], cwd=self.folder, env={**os.environ, **on_cpu},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, **apart,
            )  # fmt: skip
        note = {"arguments": arguments, "pid": process.pid, "began": psutil.Process(process.pid).create_time()}
        with atomic_write(self._note) as partial:
            partial.write_text(json.dumps(note), encoding="utf-8")

    @property
    def process(self) -> psutil.Process | None:
        """The one that trains, whoever started it; a later one that was given its number is another."""
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            process = psutil.Process(note["pid"])
            same = abs(process.create_time() - note["began"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except (FileNotFoundError, psutil.NoSuchProcess):
            return None
        return process if same else None

    @property
    def running(self) -> bool:
        """Whether it trains at present."""
        return self.process is not None

    def stop(self) -> None:
        """Let it finish its step, save and end, as Ctrl-C would."""
        process = self.process
        if process is not None:
            process.send_signal(signal.CTRL_BREAK_EVENT if WINDOWS else signal.SIGTERM)
