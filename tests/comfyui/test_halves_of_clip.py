"""ComfyUI's own classes of both halves of a CLIP, small and of random numbers, as a CLIP of ours."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = r"""
import importlib.util, json, sys, types
import utils.install_util  # before others of this name
sys.argv = ["x"]
import comfy.cli_args
comfy.cli_args.args.cpu = True
root, folder = {root!r}, {folder!r}
spec = importlib.util.spec_from_file_location("tessera", root + "/__init__.py", submodule_search_locations=[root])
sys.modules["tessera"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)

import torch
import comfy.clip_vision, comfy.sd, comfy.sd1_clip
from tessera.core.clip import pairing
from tessera.nodes.host.pairing import pair_clip

TOWER = {{"hidden_size": 64, "num_attention_heads": 1, "num_hidden_layers": 2, "intermediate_size": 96,
          "hidden_act": "quick_gelu"}}
IMAGES = {{"model_type": "clip_vision_model", "image_size": 32, "patch_size": 16, "num_channels": 3,
           "projection_dim": 64}}
with open(folder + "/vision.json", "w") as file:
    json.dump(TOWER | IMAGES, file)
vision = comfy.clip_vision.ClipVisionModel(folder + "/vision.json")
clip = comfy.sd.CLIP(no_init=True)
clip.cond_stage_model = comfy.sd1_clip.SD1ClipModel(  # as in SDXL: the one of SD 1.5 leaves out the projection
    dtype=torch.float32, model_options={{"clip_l_model_config": TOWER}}, clip_model=comfy.sd1_clip.SDClipModel
)
clip.tokenizer, clip.tokenizer_options = comfy.sd1_clip.SD1Tokenizer(), {{}}
clip.layer_idx, clip.load_model = None, lambda *_: None
clip.patcher = types.SimpleNamespace(load_device=torch.device("cpu"))  # newer hosts ask for it
torch.manual_seed(0)
for half in (vision.model, clip.cond_stage_model):
    for parameter in half.parameters():
        if parameter.ndim:
            torch.nn.init.normal_(parameter, 0.3 if parameter.ndim == 1 else 0.0, 0.1)

def refusal(pictures):
    try:
        with torch.inference_mode():
            pair_clip(clip, pictures)
    except ValueError as error:
        return str(error)

found = {{"strangers": refusal(vision)}}
check, pairing.check_space = pairing.check_space, lambda model, name: None
with torch.inference_mode():
    model = pair_clip(clip, vision).model
    image = torch.randint(256, (2, 32, 32, 3)) / 255
    theirs = torch.nn.functional.normalize(vision.encode_image(image)["image_embeds"], dim=1)
    ours = model.clip.encode_image(image.movedim(3, 1))
    found["images"] = float((theirs - ours).abs().max())
    texts = ["a photo of a cat", "it's 12:30 in London"]
    theirs = torch.cat([clip.encode_from_tokens(clip.tokenize(one), return_pooled=True)[1] for one in texts])
    ours = model.clip.encode_text(model.tokenizer(texts))
    found["words"] = float((torch.nn.functional.normalize(theirs, dim=1) - ours).abs().max())
pixels = torch.rand(1, 3, 32, 32, requires_grad=True)
model.clip.encode_image(pixels).sum().backward()  # which ComfyUI's own can't
found["gradient"] = float(pixels.grad.abs().max())

squares = torch.tensor(list(pairing.COLORS.values())).view(-1, 3, 1, 1).expand(-1, -1, 32, 32)
wanted = model.clip.encode_image(squares)
names = model.tokenizer([f"a {{color}} square" for color in pairing.COLORS])
projection, model.clip.text.projection = model.clip.text.projection, torch.nn.Identity()
features = model.clip.encode_text(names)
weight = torch.linalg.lstsq(features, wanted - wanted.mean(0)).solution.t()
clip.cond_stage_model.clip_l.transformer.text_projection.weight.data.copy_(weight)
pairing.check_space = check
found["friends"] = refusal(vision)
del IMAGES["projection_dim"]
with open(folder + "/vision.json", "w") as file:
    json.dump(TOWER | IMAGES, file)
found["without a projection"] = refusal(comfy.clip_vision.ClipVisionModel(folder + "/vision.json"))
print("FOUND" + json.dumps(found))
"""


def test_comfyui_s_halves_become_one_clip_if_they_share_a_space(tmp_path):
    if not os.environ.get("COMFYUI_DIR"):
        pytest.skip("COMFYUI_DIR names no ComfyUI checkout")
    python = os.environ.get("COMFYUI_PYTHON", sys.executable)
    paths = os.pathsep.join([os.environ["COMFYUI_DIR"], os.environ.get("PYTHONPATH", "")])
    script = SCRIPT.format(root=str(ROOT), folder=str(tmp_path))
    done = subprocess.run(
        [python, "-c", script],
        env={**os.environ, "PYTHONPATH": paths}, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "FOUND" in done.stdout, done.stderr[-3000:]
    found = json.loads(done.stdout.split("FOUND")[1])
    assert "share no space" in found["strangers"]
    assert found["images"] < 1e-4
    assert found["words"] < 1e-4
    assert found["gradient"] > 0
    assert found["friends"] is None
    assert "is no plain CLIP" in found["without a projection"]
