"""Every example workflow runs in a real ComfyUI, with the models that come with Tessera or tiny ones in their place.

`workflows/api` holds them as the front end sends them to the server (Workflow, Export (API)); they are what people who
script ComfyUI need, and what is run here.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tessera.core.bundle_file import load_bundle
from tessera.core.canvas.codec import decode_canvas
from tessera.core.conditions.edges import canny
from tessera.core.conditions.sketch import Sketch
from tessera.core.images.io import open_image, to_tensor
from tessera.core.images.resize import fit
from tessera.core.prepared import prepare_sketch
from tessera.core.sampling.loop import sample
from tessera.core.sampling.settings import SamplingSettings

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = ROOT / "models" / "emoji-sketch.safetensors"
WORKFLOWS = sorted((ROOT / "workflows" / "api").glob("*.json"))
PAINTING = {"TesseraSampleCodes", "TesseraSweepSettings", "TesseraBestOf", "TesseraAnimateTemperature"}
DIFFUSION = "54-tiles-first-then-diffusion"  # needs a checkpoint of other people

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not MODEL.exists(), reason="the embedded model is not here")]


@pytest.mark.parametrize("path", [path for path in WORKFLOWS if path.stem != DIFFUSION], ids=lambda path: path.stem)
def test_workflow_runs_and_shows_pictures_while_it_does(server, path):
    prompt = json.loads(path.read_text(encoding="utf-8"))
    report = server.run(prompt)
    assert report.status == "success", report.error or report.refused
    painting = [name for name, node in prompt.items() if node["class_type"] in PAINTING]
    assert len(report.previews) >= len(painting)
    for name in painting:
        assert server.pictures(report, name).std() > 1  # not one flat color


def test_workflow_makes_what_core_makes(server):
    prompt = json.loads((ROOT / "workflows" / "api" / "03-edges-to-pictures.json").read_text(encoding="utf-8"))
    (name,) = (name for name, node in prompt.items() if node["class_type"] == "TesseraSampleCodes")
    made = server.pictures(server.run(prompt), name)
    bundle = load_bundle(MODEL)
    picture = fit(to_tensor(open_image(ROOT / "assets" / "photograph.jpg")), "square", 256)
    guide = prepare_sketch(bundle, Sketch(lines=canny(picture) / 2 + 0.5, colors=picture))
    (settings,) = (node["inputs"] for node in prompt.values() if node["class_type"] == "TesseraSamplingSettings")
    settings = {{"guidance": "guidance_scale"}.get(name, name): value for name, value in settings.items()}
    state = sample(bundle.prior, guide.condition, guide.canvas.repeat(4), 0, SamplingSettings(**settings))
    expected = decode_canvas(bundle.vqgan, state.canvas).movedim(1, -1)
    expected = ((expected + 1) / 2 * 255).to(torch.uint8).numpy()
    assert made.shape == expected.shape
    # another number of threads may round a near tie the other way, and what follows it in that picture
    alike = [np.abs(a.astype(int) - b).mean() < 1 for a, b in zip(made, expected, strict=True)]
    assert sum(alike) >= 3


def test_workflow_beside_diffusion_lacks_nothing_but_the_checkpoint(server):
    prompt = json.loads((ROOT / "workflows" / "api" / f"{DIFFUSION}.json").read_text(encoding="utf-8"))
    answer = server.post("/prompt", {"prompt": prompt})  # what needs no checkpoint runs
    server.post("/interrupt", {})
    (errors,) = (one["errors"] for one in answer["node_errors"].values())
    assert [(one["type"], one["extra_info"]["input_name"]) for one in errors] == [("value_not_in_list", "ckpt_name")]


def test_script_of_the_readme_fetches_its_pictures(server, tmp_path, monkeypatch):
    text = (ROOT / "workflows" / "api" / "README.md").read_text(encoding="utf-8")
    script = text.split("```python\n")[1].split("```")[0]
    script = script.replace("http://127.0.0.1:8188", server.url).replace(
        "workflows/api", str(ROOT / "workflows" / "api")
    )
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=300)
    assert [Image.open(path).size for path in tmp_path.glob("*.png")] == [(256, 256)] * 2
