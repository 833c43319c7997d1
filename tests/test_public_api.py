"""`import tessera`: what it offers, when it imports what, and that README's Python runs."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tessera
from tessera.core import api
from tessera.core.bundle_file import save_bundle

ROOT = Path(__file__).resolve().parent.parent
LAZY = f"""
import importlib.util as u, sys
s = u.spec_from_file_location("tessera", r"{ROOT / "__init__.py"}", submodule_search_locations=[r"{ROOT}"])
tessera = sys.modules["tessera"] = u.module_from_spec(s)
s.loader.exec_module(tessera)
for name in ("NODE_CLASS_MAPPINGS", "NODES_LIST"):
    assert not hasattr(tessera, name)
assert not [n for n in sys.modules if n.startswith(("torch", "numpy", "tessera."))], sys.modules.keys()
assert tessera.Canvas.__name__ == "Canvas"
"""


def test_root_and_core_offer_the_same_names_each_described():
    assert set(tessera.__all__) == {name for name in vars(api) if not name.startswith("_")}
    assert set(tessera.__all__) <= set(dir(tessera))
    assert not [name for name in tessera.__all__ if not getattr(tessera, name).__doc__]


def test_api_page_names_all_of_it():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert not [name for name in tessera.__all__ if f"`{name}" not in page]


def test_nothing_is_imported_before_a_name_is_used_and_other_names_are_missing_at_once():
    subprocess.run([sys.executable, "-c", LAZY], check=True)
    with pytest.raises(AttributeError, match="no attribute 'paint'"):
        _ = tessera.paint


def test_a_model_samples_from_an_image_file(make_bundle, tmp_path):
    save_bundle(tmp_path / "a.safetensors", make_bundle("edges"))
    tessera.to_pil(torch.rand(1, 3, 30, 20) * 2 - 1)[0].save(tmp_path / "a.png")
    model = tessera.load(tmp_path / "a.safetensors")
    photo = tessera.read_image(tmp_path / "a.png", square=model.image_size)
    result = model.sample(tessera.canny(photo), batch=3, seed=5, temperature=0.9)
    assert result.images.shape == (3, 3, 16, 16)
    assert result.entropy.shape == result.log_probability.shape == result.canvas.indices.shape == (3, 4, 4)
    alone = model.sample(model.condition(tessera.canny(photo)), seed=7, temperature=0.9)
    assert torch.equal(alone.canvas.indices, result.canvas.indices[2:])
    assert torch.equal(tessera.decode(model.vqgan, result.canvas), result.images)


def test_known_cells_of_a_canvas_stay(make_bundle):
    model = make_bundle("none")
    start = tessera.Canvas.filled(torch.randint(16, (1, 4, 8))).forget(torch.arange(8).expand(4, 8) > 3)
    result = model.sample(canvas=start, batch=2)
    assert torch.equal(result.canvas.indices[:, :, :4], start.indices[:, :, :4].expand(2, -1, -1))
    assert result.images.shape == (2, 3, 16, 32)


@pytest.mark.slow
def test_python_of_the_readme_runs(tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    code = "\n".join(blocks)
    for change in (("batch=4", "batch=1"), ("stride=4", "stride=8")):  # the same calls with less to draw
        assert change[0] in code
        code = code.replace(*change)
    for folder in ("models", "assets"):
        (tmp_path / folder).symlink_to(ROOT / folder, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "readme.py").write_text(code, encoding="utf-8")
    runpy.run_path(str(tmp_path / "readme.py"))
    assert {path.name for path in tmp_path.glob("*.png")} == {"0.png", "panorama.png"}
