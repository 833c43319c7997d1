"""The stand-in is like the ComfyUI it stands for."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tessera.nodes.host import comfy as _  # noqa: F401, the stand-in is in place

CALLED = {  # module: what the nodes call in it, dots into classes
    "comfy.model_management": [
        "throw_exception_if_processing_interrupted", "load_models_gpu", "get_torch_device", "unet_offload_device",
        "intermediate_device", "unet_dtype", "unload_all_models", "soft_empty_cache",
    ],
    "comfy.model_patcher": ["ModelPatcher.__init__"],
    "comfy_execution.graph_utils": ["ExecutionBlocker.__init__"],
    "comfy_execution.utils": ["get_executing_context"],
    "comfy.utils": ["ProgressBar.__init__", "ProgressBar.update_absolute"],
    "folder_paths": [
        "add_model_folder_path", "get_filename_list", "get_full_path", "get_input_directory",
        "get_output_directory", "get_temp_directory", "get_save_image_path",
    ],
    "comfy_api.latest": [
        "io.Schema.__init__", "io.NodeOutput.__init__", "io.Int.Input.__init__", "io.Float.Input.__init__",
        "io.String.Input.__init__", "io.Boolean.Input.__init__", "io.Combo.Input.__init__", "io.Custom",
        "io.Input.__init__", "io.Output.__init__", "io.Image.Input.__init__", "io.Mask.Output.__init__",
        "io.Latent.Input.__init__", "ui.PreviewImage.__init__", "ui.PreviewImage.as_dict", "ui.PreviewText.__init__",
        "ui.SavedImages.__init__", "ui.SavedResult.__init__",
    ],
}  # fmt: skip
LISTING = f"""
import importlib, inspect, json, sys
sys.argv = ["x"]
import comfy.cli_args
comfy.cli_args.args.cpu = True
found = {{}}
for module, names in {CALLED!r}.items():
    for name in names:
        thing = importlib.import_module(module)
        for part in name.split("."):
            thing = getattr(thing, part)
        found[module + " " + name] = list(inspect.signature(thing).parameters)
print("FOUND" + json.dumps(found))
"""


def test_stand_in_takes_what_the_real_one_takes():
    if not os.environ.get("COMFYUI_DIR"):
        pytest.skip("COMFYUI_DIR names no ComfyUI checkout")
    python = os.environ.get("COMFYUI_PYTHON", sys.executable)
    # its Python path is a list of folders, as this process's own might be
    paths = os.pathsep.join([os.environ["COMFYUI_DIR"], os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [python, "-c", LISTING], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    assert "FOUND" in done.stdout, done.stderr[-2000:]
    real = json.loads(done.stdout.split("FOUND")[1])
    for place, parameters in real.items():
        module, name = place.split()
        thing = sys.modules[module]
        for part in name.split("."):
            thing = getattr(thing, part)
        ours = [p for p in inspect.signature(thing).parameters if p not in ("args", "kwargs", "self")]
        assert set(ours) <= set(parameters), place


def test_host_uses_nothing_that_the_stand_in_lacks():
    """Importing and calling it would fail otherwise; this guards attributes used in branches that no test takes."""
    import ast

    from tessera.nodes.host import comfy as host

    tree = ast.parse(Path(host.__file__).read_text(encoding="utf-8"))
    for found in ast.walk(tree):
        if isinstance(found, ast.Attribute) and isinstance(found.value, ast.Name) and found.value.id == "folder_paths":
            assert hasattr(sys.modules["folder_paths"], found.attr), found.attr
