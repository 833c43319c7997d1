"""A miniature of each condition: trained on pictures whose color it tells, then painted with in nodes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tessera.__main__ import main
from tessera.core.autoencoders.nearest import as_rows
from tessera.core.autoencoders.vqgan import VQGAN, VQGANConfig
from tessera.core.autoencoders.vqgan_file import save_vqgan
from tessera.core.canvas.canvas import Canvas
from tessera.core.conditions.layout import Box
from tessera.core.images.io import to_tensor
from tessera.core.loading import load
from tessera.nodes import conditions, layout, loaders
from tessera.nodes import sample as sampling
from tessera.nodes.host import comfy as adapter
from tessera.training.engine.log import read_csv

NAMES = ("blue", "gray", "red", "white")  # in alphabetical order, as their labels are
COLORS = ((30, 40, 220), (110, 110, 110), (230, 30, 20), (250, 250, 250))
SIDE, NUMBER, STEPS = 16, 24, 60
MAPS = {"depth": 1, "segmentation": len(NAMES)}  # channels of their VQGAN
WITHOUT_DROPOUT = ("coordinates",)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    yield
    torch.set_num_threads(before)


def paint_pictures(folder: Path) -> None:
    """Pictures of one color each, in the folder of its name, and all that may be told of them beside."""
    boxes = {"images": [], "annotations": [], "categories": [{"id": i, "name": name} for i, name in enumerate(NAMES)]}
    lines = ["file,class,caption"]
    for number in range(NUMBER):
        label = number % len(NAMES)
        name = f"{NAMES[label]}/{number}.png"
        for where, picture in {
            "pictures": Image.new("RGB", (SIDE, SIDE), COLORS[label]),
            "segmentation": Image.new("L", (SIDE, SIDE), label),
            "depth": slope(label),
        }.items():
            (folder / where / name).parent.mkdir(parents=True, exist_ok=True)
            picture.save(folder / where / name)
        boxes["images"].append({"id": number, "file_name": name})
        boxes["annotations"].append({"image_id": number, "category_id": label, "bbox": [0, 0, SIDE, SIDE]})
        lines.append(f"{name},{label},the {NAMES[label]}")
    (folder / "boxes.json").write_text(json.dumps(boxes))
    (folder / "table.csv").write_text("\n".join(lines))


def slope(label: int) -> Image.Image:
    """A depth map that falls to one of four sides."""
    ramp = np.tile(np.linspace(0, 255, SIDE).astype(np.uint8), (SIDE, 1))
    return Image.fromarray(np.ascontiguousarray(np.rot90(ramp, label)))


def save_stage(path: Path, pictures: torch.Tensor) -> str:
    """A VQGAN whose codes lie where these pictures' latents are; it has learned nothing else."""
    torch.manual_seed(0)
    model = VQGAN(VQGANConfig(
        image_channels=pictures.shape[1], channels=32, channel_mult=(1,), blocks_per_level=1, attention_levels=(),
        latent_channels=32, patch_size=4, codebook_size=12, code_dim=4,
    ))  # fmt: skip
    with torch.no_grad():
        latents = model.encode(pictures)
    model.codebook.init_kmeans(as_rows(latents), torch.Generator().manual_seed(0))
    save_vqgan(path, model)
    return str(path)


def stage_of_maps(folder: Path, kind: str) -> str:
    from tessera.core.conditions.maps import depth, segmentation

    if kind == "depth":
        maps = torch.cat([depth(to_tensor(slope(label).convert("RGB"))) for label in range(4)])
    else:
        maps = segmentation(torch.arange(4)[:, None, None].expand(-1, SIDE, SIDE), len(NAMES))
    return save_stage(folder / f"{kind}.safetensors", maps)


def condition_section(folder: Path, kind: str) -> dict:
    section = {"kind": kind, "dropout": 0.0 if kind in WITHOUT_DROPOUT else 0.2}
    match kind:
        case "depth" | "segmentation":
            section |= {"folder": str(folder / kind), "vqgan": stage_of_maps(folder, kind)}
            section |= {"labels": len(NAMES)} if kind == "segmentation" else {}
        case "layout":
            section["table"] = str(folder / "boxes.json")
        case "words":
            section["table"] = str(folder / "table.csv")
        case "low-resolution":
            section["factor"] = 4
        case "coordinates":
            section["labels"] = 64
    return section


def write_run(folder: Path, kind: str, model: dict) -> str:
    """The YAML of a whole run of this kind."""
    paint_pictures(folder)
    swatches = torch.cat([to_tensor(Image.new("RGB", (SIDE, SIDE), color)) for color in COLORS])
    data = {"folder": str(folder / "pictures"), "size": SIDE, "validation": 0.3, "flip": False}
    if kind == "coordinates":  # aligned pictures, twice as large as a view, whose color depends on the place alone
        rows = np.array([COLORS[:2], COLORS[2:]], np.uint8).repeat(SIDE, 0).repeat(SIDE, 1)
        for path in (folder / "pictures").rglob("*.png"):
            Image.fromarray(rows).save(path)
        data |= {"zoom": [2.0, 2.0], "shift": 1.0}
        swatches = torch.cat([swatches, to_tensor(Image.fromarray(rows[8:24, 8:24]))])
    tree = {
        "output": str(folder / "run"),
        "data": data,
        "vqgan": save_stage(folder / "vqgan.safetensors", swatches),
        "condition": condition_section(folder, kind),
        "views": 2,
        "model": model,
        "loop": {"steps": STEPS, "batch": 8, "warmup": 5, "ema": 0.9, "learning_rate": 1e-2, "validate_every": STEPS},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(tree))
    return str(folder / "run.yaml")


def image(color: tuple[int, int, int]) -> torch.Tensor:
    """As ComfyUI has pictures."""
    return torch.tensor(color).float().div(255).expand(1, SIDE, SIDE, 3).contiguous()


def guide_in_nodes(model, kind: str, label: int):
    """What asks for the color `label`, from the condition's own node."""
    match kind:
        case "class":
            return conditions.ClassLabel.execute(model, label)[0]
        case "words":
            return conditions.Caption.execute(model, f"the {NAMES[label]}")[0]
        case "layout":
            return layout.SceneLayout.execute(model, f"{label} 0 0 1 1", SIDE, SIDE)[0]
        case "depth":
            picture = to_tensor(slope(label).convert("RGB")).movedim(1, -1) / 2 + 0.5
            return conditions.Depth.execute(model, picture, "square", True)[0]
        case "segmentation":
            return conditions.Segmentation.execute(model, image((label,) * 3), "square")[0]
        case "low-resolution":
            return conditions.LowResolution.execute(model, image(COLORS[label]), "square")[0]


def given_in_python(kind: str, label: int):
    """The same for the public API."""
    match kind:
        case "class":
            return torch.tensor([label])
        case "words":
            return NAMES[label]
        case "layout":
            return [Box(label, 0, 0, 1, 1)]
        case "depth":
            return to_tensor(slope(label).convert("RGB"))
        case "segmentation":
            return torch.full((1, SIDE, SIDE), label)
        case "low-resolution":
            return to_tensor(Image.new("RGB", (SIDE // 4, SIDE // 4), COLORS[label]))


def calm(guidance: float = 1.0):
    """Settings under which the prior paints what it thinks likeliest."""
    return sampling.Settings.execute(0.0, 0, 1.0, 0.0, guidance)[0]


def agreement(indices: torch.Tensor, wanted: torch.Tensor) -> float:
    """Share of the cells that are as wanted."""
    return (indices == wanted).float().mean().item()


KINDS = ("class", "words", "layout", "depth", "segmentation", "low-resolution", "coordinates")
TRANSFORMER = {"layers": 1, "width": 32, "heads": 2}
CONTROLLED = TRANSFORMER | {"control": True}


@pytest.mark.parametrize(("kind", "model"), [*((kind, TRANSFORMER) for kind in KINDS), ("depth", CONTROLLED)])
def test_each_condition_trains_is_bundled_and_guides_pictures_in_nodes(host, tmp_path, kind, model):
    config = write_run(tmp_path, kind, model)
    assert main(["train", "prior", config]) == 0
    held_out = {name: values[-1] for name, values in read_csv(tmp_path / "run" / "validation.csv").items()}
    assert held_out["nll"] < 0.85 * held_out["shuffled_nll"]
    assert ("free_nll" in held_out) == (kind not in WITHOUT_DROPOUT)

    made = tmp_path / "run" / "bundle.safetensors"
    parts = ["--vqgan", str(tmp_path / "vqgan.safetensors"), "--prior", str(tmp_path / "run" / "prior.safetensors")]
    own = ["--condition", str(tmp_path / f"{kind}.safetensors")] if kind in MAPS else []
    joined = tmp_path / "joined.safetensors"
    assert main(["bundle", *parts, *own, "--output", str(joined)]) == 0
    assert load(joined).condition_config == load(made).condition_config

    bundle = load(made)
    adapter.register_model_folders()
    (tmp_path / "models" / "vq_transformer").mkdir(parents=True, exist_ok=True)
    made.rename(tmp_path / "models" / "vq_transformer" / "mine.safetensors")
    loaded = loaders.LoadBundle.execute("mine.safetensors")[0]
    codes = [loaded.bundle.vqgan.encode_indices(to_tensor(Image.new("RGB", (SIDE, SIDE), c))).flatten() for c in COLORS]
    if kind == "coordinates":
        wide = sampling.SampleCodes.execute(loaded, 0, 2, 0, canvas=Canvas.empty(1, 8, 8), settings=calm())[1]
        quarters = wide.indices[:1].unfold(1, 4, 4).unfold(2, 4, 4).reshape(4, 16)
        assert len({tuple(quarter.tolist()) for quarter in quarters}) == 4
        return
    for label in (0, 2):
        guide = guide_in_nodes(loaded, kind, label)
        sampled = sampling.SampleCodes.execute(loaded, 3, 2, 0, condition=guide, settings=calm(2.0))[1]
        alike = [agreement(sampled.indices.flatten(1), wanted) for wanted in codes]
        assert alike[label] == max(alike) > 0.6
        result = bundle.sample(given_in_python(kind, label), batch=2, seed=3, temperature=0.0, guidance_scale=2.0)
        assert torch.equal(result.canvas.indices, sampled.indices)
    free = sampling.SampleCodes.execute(loaded, 0, 2, 0)[1]
    assert free.indices.shape == (2, 4, 4)
