"""Training from inside the graph: the real program in a process of its own, stopped, gone on with, and found again."""

import asyncio
import json
import time
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from tessera.core.autoencoders.vqgan_file import read_vqgan, save_vqgan
from tessera.core.loading import load
from tessera.nodes.host import comfy as adapter
from tessera.nodes.host.health import health
from tessera.nodes.host.runs import Run
from tessera.nodes.host.training_route import ADDRESS, add_training_routes
from tessera.nodes.training.train import TrainPrior, TrainVQGAN

TINY = """
model.channels=32
model.channel_mult=[1, 1]
model.codebook_size=16
loop.save_every=1
loop.log_every=1
"""


@pytest.fixture
def inputs(host, tmp_path, monkeypatch):
    """Widgets of Train VQGAN for a run of seconds; pictures are in the input folder."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (tmp_path / "input" / "photos").mkdir()
    rng = np.random.default_rng(0)
    for i in range(8):
        pixels = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((32, 32)).save(tmp_path / "input" / "photos" / f"{i}.png")
    adapter.register_model_folders()
    yield {
        "name": "mine", "do": "train", "pictures": ' "photos"', "size": 32, "batch": 2, "steps": 100_000,
        "model": "small", "start_from": "nothing", "more": TINY,
    }  # fmt: skip
    for folder in (tmp_path / "output" / "training").glob("*"):  # none where the test was skipped
        if process := Run(folder.name).process:
            process.kill()


def told(output) -> str:
    return output.ui.value


def wait_for(run: Run, words: str, seconds: float = 120) -> None:
    """Until the run's log holds some words."""
    end = time.monotonic() + seconds
    while words not in (said := run.log.read_text(encoding="utf-8")):
        assert time.monotonic() < end, said
        assert run.running or words in run.log.read_text(encoding="utf-8"), said
        time.sleep(0.1)


def answer_of(method: str, address: str, name: str) -> tuple[int, dict]:
    """What the server would send."""
    handler = adapter.routes().handlers[method, address]
    answer = asyncio.run(handler(SimpleNamespace(match_info={"name": name})))
    return answer.status, json.loads(answer.text)


@pytest.mark.slow
def test_a_run_is_watched_stopped_and_gone_on_with_and_its_weights_are_in_the_loaders(inputs, tmp_path):
    pytest.importorskip("aiohttp")
    add_training_routes()
    run = Run("mine")
    assert told(TrainVQGAN.execute(**{**inputs, "do": "look"})) == "mine has not begun; choose train and run the node"
    assert "mine trains: no step yet" in told(TrainVQGAN.execute(**inputs))
    first = run.process.pid
    wait_for(run, "step 3/100000")
    TrainVQGAN.execute(**inputs)
    assert run.process.pid == first  # one run, however often the node is queued
    status, seen = answer_of("GET", ADDRESS, "mine")
    assert (status, seen["state"], seen["loss"]) == (200, "running", "l1")
    assert seen["sentence"].startswith("mine trains: step ")
    assert seen["curve"][0][0] == 1
    assert {"l1", "codebook", "perplexity", "dead_codes", "images_per_second"} <= seen["figures"].keys()

    process = run.process
    status, _ = answer_of("POST", f"{ADDRESS}/stop", "mine")
    assert status == 200
    psutil.wait_procs([process], timeout=60)
    weights = tmp_path / "models" / "vqgan" / "mine.safetensors"
    ended = health(run)
    assert ended["state"] == "ended"
    assert ended["sentence"].endswith("the weights are in models/vqgan/mine.safetensors")
    assert read_vqgan(weights).config.codebook_size == 16
    assert "mine.safetensors" in adapter.model_files("vqgan")
    saved = torch.load(run.folder / "state.pt", weights_only=True)["step"]

    status, seen = answer_of("POST", f"{ADDRESS}/go_on", "mine")  # as after a restart: all is read from the folder
    assert (status, seen["state"]) == (200, "running")
    assert run.process.pid != first
    wait_for(run, f"resumed at step {saved} of 100000")


@pytest.mark.slow
def test_a_prior_is_trained_to_its_end_and_shows_samples(inputs, tmp_path, make_bundle):
    (tmp_path / "models" / "vqgan").mkdir()
    save_vqgan(tmp_path / "models" / "vqgan" / "codec.safetensors", make_bundle("none").vqgan)
    del inputs["model"], inputs["start_from"]
    TrainPrior.execute(
        **{**inputs, "steps": 2, "more": "views=1\nloop.log_every=1"}, vqgan_file="codec.safetensors",
        condition="nothing", condition_file="nothing", layers=1, width=64,
    )  # fmt: skip
    run = Run("mine")
    psutil.wait_procs([run.process], timeout=120)
    seen = health(run)
    weights = tmp_path / "models" / "vq_transformer" / "mine.safetensors"
    assert seen["sentence"].endswith("step 2 of 2; the weights are in models/vq_transformer/mine.safetensors")
    assert {"nll", "unigram"} <= seen["held_out"].keys()
    assert seen["picture"] == {
        "filename": "samples-0000002.png", "subfolder": "training/mine/pictures", "type": "output"
    }  # fmt: skip
    assert load(weights).prior.config.width == 64


def test_what_can_not_be_trained_is_refused_before_a_process_starts(inputs, monkeypatch):
    with pytest.raises(ValueError, match=r"'\.\./other' can't be the name of a run; choose letters"):
        TrainVQGAN.execute(**{**inputs, "name": "../other"})
    with pytest.raises(ValueError, match=r"nowhere is not a folder; give pictures one with pictures in it"):
        TrainVQGAN.execute(**{**inputs, "pictures": "nowhere"})
    monkeypatch.setattr("tessera.nodes.host.runs.NEEDED", ("torch", "no_such_package"))
    with pytest.raises(ValueError, match=r"needs packages that are not here; stop ComfyUI, then: .* no_such_package$"):
        TrainVQGAN.execute(**inputs)
    assert not Run("mine").begun
    assert "has not begun" in told(TrainVQGAN.execute(**{**inputs, "do": "stop"}))


def test_a_process_that_was_given_the_number_of_a_run_is_not_stopped(inputs):
    run = Run("mine")
    run.folder.mkdir(parents=True)
    me = psutil.Process()
    note = {"arguments": [], "pid": me.pid, "began": me.create_time() - 60}
    (run.folder / "process.json").write_text(json.dumps(note))
    assert not run.running
    run.stop()  # or this test would end here
    (run.folder / "validation.csv").write_text("step,psnr,edge_f1\n1,12.5,nan\n2,13.")
    seen = health(run)
    assert (seen["state"], seen["held_out"]) == ("ended", {"psnr": 12.5})
    json.dumps(seen, allow_nan=False)  # which pages can't read
