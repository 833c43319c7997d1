"""A small stand-in for ComfyUI, so that the nodes can be imported and called without it.

It holds what `nodes/host/comfy.py` uses and nothing more, and refuses what ComfyUI 0.3.64 refuses.
`test_stand_in.py` compares it with the real one where COMFYUI_DIR names a checkout.
"""

import importlib.util
import sys
import types
from pathlib import Path

import pytest

STAND_IN = Path(__file__).parent / "stand_in.py"


def install() -> types.ModuleType:
    """Put the stand-in in the host's place; returns its module."""
    spec = importlib.util.spec_from_file_location("comfyui_stand_in", STAND_IN)
    stand_in = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stand_in)
    for name, members in stand_in.MODULES.items():
        module = types.ModuleType(name)
        module.__dict__.update(members)
        sys.modules[name] = module
        if "." in name:
            setattr(sys.modules[name.rpartition(".")[0]], name.rpartition(".")[2], module)
    return stand_in


HOST = install()


@pytest.fixture
def host(tmp_path, monkeypatch):
    """The stand-in, with empty folders."""
    for name in ("models", "input", "output"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(HOST.state, "folders", {})
    monkeypatch.setattr(HOST.state, "base", tmp_path)
    monkeypatch.setattr(HOST.state, "interrupted_after", None)
    monkeypatch.setattr(HOST.state, "updates", [])
    monkeypatch.setattr(HOST.state, "loaded", [])
    monkeypatch.setattr(HOST.state, "said", [])
    from tessera.nodes.host import handles, resume

    monkeypatch.setattr(handles, "_fingerprints", {})
    resume.kept.clear()
    resume.finished.clear()
    monkeypatch.setattr(sys.modules["folder_paths"], "models_dir", str(tmp_path / "models"))
    monkeypatch.setattr(sys.modules["folder_paths"], "folder_names_and_paths", HOST.state.folders)
    return HOST.state
