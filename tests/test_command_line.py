"""`python -m tessera`: help, dispatch and what a mistake looks like."""

import argparse
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tessera import __main__ as command_line

ROOT = Path(__file__).resolve().parent.parent
EMBEDDED = ROOT / "models" / "emoji-sketch.safetensors"
# imports the checkout as `tessera` in a new process, then does what its argument says
BOOTSTRAP = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("tessera", {str(ROOT / "__init__.py")!r},
                                              submodule_search_locations=[{str(ROOT)!r}])
sys.modules["tessera"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["tessera"])
"""


def modules_after(statement: str) -> set[str]:
    """Top-level names of the modules that a new process holds after `statement`."""
    script = f"{BOOTSTRAP}\n{statement}\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stderr.split()}


def test_importing_the_package_does_not_import_torch():
    assert not modules_after("") & {"torch", "numpy", "PIL"}


def test_help_lists_every_command_without_importing_torch(capsys):
    with pytest.raises(SystemExit) as stop:
        command_line.main(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf"^    {name}\s", shown, re.MULTILINE) for name in command_line.COMMANDS)
    help_statement = "import tessera.__main__ as m\ntry: m.main(['--help'])\nexcept SystemExit: pass"
    assert not modules_after(help_statement) & {"torch", "numpy", "PIL"}


@pytest.mark.parametrize("name", command_line.COMMANDS)
def test_help_of_each_command_describes_it(name, capsys):
    with pytest.raises(SystemExit) as stop:
        command_line.main([name, "--help"])
    assert stop.value.code == 0
    usage, description = capsys.readouterr().out.split("\n\n", 2)[:2]
    assert usage.startswith(f"usage: python -m tessera {name}")
    assert description[0].isupper()
    assert description.rstrip().endswith(".")


@pytest.mark.parametrize("arguments", [[], ["paint"], ["--size", "3"], ["train", "everything", "x.yaml"]])
def test_wrong_arguments_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        command_line.main(arguments)
    assert stop.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_unknown_command_names_the_known_ones(capsys):
    with pytest.raises(SystemExit):
        command_line.main(["sing"])
    message = capsys.readouterr().err
    assert all(name in message for name in command_line.COMMANDS)


def test_bad_input_is_one_line_and_exit_code_2(tmp_path, capsys):
    assert command_line.main(["train", "vqgan", str(tmp_path / "missing.yaml")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("tessera: error: ")
    assert "missing.yaml" in lines[0]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ValueError("first line\n  second"), 2, "tessera: error: first line second\n"),
        (FileNotFoundError("no x"), 2, "tessera: error: no x\n"),
        (PermissionError(13, "Permission denied", "runs/x"), 2, "tessera: error: runs/x: Permission denied\n"),
        (OSError(28, "No space left on device"), 2, "No space left on device\n"),
        (ModuleNotFoundError("No module named 'yaml'", name="yaml"), 2, "yaml is missing"),
        (KeyboardInterrupt(), 130, ""),
        (torch.OutOfMemoryError("no room for\nit"), 2, "tessera: error: no room for it\n"),
    ],
)
def test_errors_of_a_command_become_exit_codes(monkeypatch, capsys, error, code, words):
    def fail(args: argparse.Namespace) -> int:
        raise error

    module = SimpleNamespace(__doc__="Fails.", add_arguments=lambda parser: None, run=fail)
    monkeypatch.setattr(command_line.importlib, "import_module", lambda *name: module)
    assert command_line.main(["demo"]) == code
    assert words in capsys.readouterr().err


def test_a_reader_that_has_enough_is_no_error():
    script = f"{BOOTSTRAP}\nimport tessera.__main__ as m\nsys.exit(m.main(['inspect', {str(EMBEDDED)!r}]))"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    assert "Traceback" not in process.communicate()[1]
    assert process.returncode == 0


def test_home_is_known_in_the_paths_of_all_commands(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert command_line.main(["inspect", "~/none.safetensors"]) == 2
    assert f"{tmp_path}/none.safetensors" in capsys.readouterr().err


def test_a_bug_is_not_hidden(monkeypatch):
    def fail(args: argparse.Namespace) -> int:
        raise KeyError("bug")

    module = SimpleNamespace(__doc__="Fails.", add_arguments=lambda parser: None, run=fail)
    monkeypatch.setattr(command_line.importlib, "import_module", lambda *name: module)
    with pytest.raises(KeyError):
        command_line.main(["demo"])
