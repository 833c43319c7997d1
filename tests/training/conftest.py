"""Pictures to train on, the smallest runs that are still whole, and `python -m tessera` in a process of its own."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageDraw

from tessera.core.autoencoders.nearest import as_rows
from tessera.core.autoencoders.vqgan import VQGAN
from tessera.core.autoencoders.vqgan_file import save_vqgan
from tessera.training.config.runs import PriorRun, VQGANRun
from tessera.training.config.yaml import build
from tessera.training.data.folder import ImageViews, find_images

ROOT = Path(__file__).resolve().parent.parent.parent
CPU_ONLY = {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


@pytest.fixture(autouse=True, scope="module")
def one_thread_of_the_cpu():
    """The number of threads decides the last bits of a sum, and more than one only wait for each other here. Of a whole
    module, or what its tests share would be made with other bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CPU_ONLY.items():
            patch.setenv(name, value)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """A folder of 24 drawings of 40x48 pixels on a smooth ground: the even ones opaque, the odd ones with alpha."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for i in range(24):
        corners = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
        picture = Image.fromarray(corners).resize((40, 48), Image.Resampling.BILINEAR)
        if i % 2:
            picture = Image.new("RGBA", (40, 48))
        color = tuple(rng.integers(0, 256, 3).tolist())
        ImageDraw.Draw(picture).ellipse([8, 6 + i % 5, 30, 40], fill=color, outline="black", width=2)
        picture.save(folder / f"drawing-{i:02d}.png")
    return folder


@pytest.fixture
def tiny_tree(pictures, tmp_path):
    """(changes by section) -> the settings of a whole first stage in a fraction of a second, as in its YAML."""

    def make(**changes) -> dict:
        tree = {
            "output": str(tmp_path / "run"),
            "data": {"folder": str(pictures), "size": 32, "validation": 0.2, "backgrounds": ["#ffffff", "random"]},
            "model": {
                "channels": 32, "channel_mult": [1, 1], "blocks_per_level": 1, "attention_levels": [],
                "latent_channels": 32, "patch_size": 2, "codebook_size": 16, "code_dim": 4, "codebook": "ema",
            },
            "loss": {"perceptual": "none", "adversarial_weight": 0.0, "restart_every": 3},
            "loop": {"steps": 4, "batch": 4, "warmup": 2, "ema": 0.9, "log_every": 1, "learning_rate": 2e-3},
        }  # fmt: skip
        for key, value in changes.items():
            tree[key] = {**tree.get(key, {}), **value} if isinstance(value, dict) else value
        return tree

    return make


@pytest.fixture
def tiny_run(tiny_tree):
    """(changes by section) -> the VQGANRun of `tiny_tree`."""
    return lambda **changes: build(VQGANRun, tiny_tree(**changes), "")


@pytest.fixture
def stages(tiny_run, tmp_path) -> dict[str, str]:
    """Files of a picture VQGAN of 16 codes and an edge VQGAN of 8, both 8x8 cells for 32 pixels.

    They have learned nothing, but their codes lie where the pictures' latents are, so all are used.
    """
    files = {}
    for name, picture, channels, codes in (("vqgan", "color", 3, 16), ("edges", "edges", 1, 8)):
        run = tiny_run(
            data={"picture": picture}, model={"image_channels": channels, "codebook_size": codes, "codebook": "nearest"}
        )
        torch.manual_seed(0)
        model = VQGAN(run.model)
        views = ImageViews(find_images(run.data), run.data, 0, augment=False)
        with torch.no_grad():
            latents = model.encode(torch.stack([views[0, i][picture] for i in range(8)]))
        model.codebook.init_kmeans(as_rows(latents), torch.Generator().manual_seed(0))
        files[name] = str(tmp_path / f"{name}.safetensors")
        save_vqgan(files[name], model)
    return files


@pytest.fixture
def prior_tree(stages, tiny_tree, tmp_path):
    """(changes by section) -> the settings of a whole second stage in about a second."""

    def make(**changes) -> dict:
        tree = tiny_tree(output=str(tmp_path / "prior"), loop={"validate_every": 2, **changes.pop("loop", {})})
        del tree["loss"]
        tree |= {"vqgan": stages["vqgan"], "condition": {"kind": "edges", "vqgan": stages["edges"]}, "views": 2}
        tree["model"] = {"layers": 1, "width": 32, "heads": 2}
        return tree | changes

    return make


@pytest.fixture
def prior_run(prior_tree):
    return lambda **changes: build(PriorRun, prior_tree(**changes), "")


@pytest.fixture
def write_yaml(tmp_path):
    """(tree, name) -> a YAML file that holds the tree."""

    def write(tree: dict, name: str = "run.yaml") -> Path:
        path = tmp_path / name
        path.write_text(yaml.safe_dump(tree), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def package_folder(tmp_path_factory) -> Path:
    """A folder that holds this checkout under the name `tessera`, for PYTHONPATH."""
    folder = tmp_path_factory.mktemp("packages")
    (folder / "tessera").symlink_to(ROOT, target_is_directory=True)
    return folder


@pytest.fixture
def start_tessera(package_folder):
    """(arguments, environment) -> `python -m tessera ...` as a running process in a process group of its own."""
    started = []

    def start(*arguments: str | Path, **environment: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "tessera", *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            env={**os.environ, **CPU_ONLY, "PYTHONPATH": str(package_folder), **environment},
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def start_two(start_tessera):
    """(arguments) -> the same command in two processes that train together over gloo."""

    def start(*arguments: str | Path) -> list[subprocess.Popen]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        return [start_tessera(*arguments, **world, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(2)]

    return start
