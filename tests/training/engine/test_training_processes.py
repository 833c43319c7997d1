"""Runs of the real command in processes of their own: killed, interrupted, and two at once."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tessera.training.engine.log import read_csv
from tessera.training.engine.loop import make_accelerator
from tessera.training.stages.prior import load_codes, load_stages, load_views

pytestmark = pytest.mark.slow


def load_state(run: Path) -> dict:
    return torch.load(run / "state.pt", weights_only=True)


def tensors_of(tree: object, where: str = "") -> dict[str, torch.Tensor]:
    """All tensors of nested dictionaries and lists by their path."""
    if isinstance(tree, torch.Tensor):
        return {where: tree}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return {name: t for key, value in items for name, t in tensors_of(value, f"{where}/{key}").items()}


def read_until(process: subprocess.Popen, words: str) -> None:
    """Read what a process says up to the line that holds `words`."""
    said = []
    for line in process.stdout:
        said.append(line)
        if words in line:
            return
    pytest.fail(f"{words!r} was never said:\n{''.join(said)}")


def finish(process: subprocess.Popen, code: int = 0) -> str:
    """Wait for the end; what was said until then."""
    said = process.communicate(timeout=120)[0]
    assert process.returncode == code, said
    return said


ADVERSARY = {"adversarial_weight": 0.5, "adversarial_start": 2, "adversarial_ramp": 4, "perceptual": "features",
             "discriminator_channels": 16}  # fmt: skip


@pytest.mark.parametrize(("codebook", "loss"), [("ema", ADVERSARY), ("gumbel", {})], ids=["adversary", "gumbel"])
def test_a_killed_run_resumes_to_the_bits_of_an_uninterrupted_one(
    tiny_tree, write_yaml, start_tessera, tmp_path, codebook, loss
):
    loop = {"steps": 10, "batch": 2, "accumulate": 2, "save_every": 4, "validate_every": 6}
    config = write_yaml(tiny_tree(model={"codebook": codebook}, loss=loss, loop=loop))
    whole = start_tessera("train", "vqgan", config, "--set", f"output={tmp_path}/whole")
    killed = start_tessera("train", "vqgan", config, "--set", f"output={tmp_path}/parts")
    read_until(killed, "step 6/10")
    killed.send_signal(signal.SIGKILL)
    finish(killed, -signal.SIGKILL)
    saved = load_state(tmp_path / "parts")["step"]
    assert 4 <= saved < 10
    resumed = start_tessera("train", "vqgan", config, "--set", f"output={tmp_path}/parts")
    assert f"resumed at step {saved} of 10" in finish(resumed)
    finish(whole)

    wanted, found = (tensors_of(load_state(tmp_path / name)) for name in ("whole", "parts"))
    assert wanted.keys() == found.keys()
    assert any("discriminator" in name for name in wanted) == bool(loss)
    assert [name for name in wanted if not torch.equal(wanted[name], found[name])] == []
    whole_file, parts_file = (load_file(tmp_path / name / "vqgan.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole_file[name], parts_file[name]) for name in whole_file)
    logs = [read_csv(tmp_path / name / "train.csv") for name in ("whole", "parts")]
    assert logs[1]["step"] == list(range(1, 11))
    assert logs[0]["l1"] == logs[1]["l1"]


@pytest.fixture
def large_pictures(pictures, tmp_path) -> Path:
    """Pictures that take much longer to read than to learn from."""
    folder = tmp_path / "large"
    folder.mkdir()
    for path in sorted(pictures.iterdir())[:12]:
        Image.open(path).resize((1200, 1440)).save(folder / path.name)
    return folder


@pytest.mark.parametrize(
    ("number", "workers"),
    [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGUSR1, 0)],
    ids=["ctrl-c", "TERM", "USR1"],
)
def test_a_signal_while_reading_pictures_finishes_the_step_and_saves(
    large_pictures, tiny_tree, write_yaml, start_tessera, tmp_path, number, workers
):
    data = {"folder": str(large_pictures), "workers": workers}
    process = start_tessera("train", "vqgan", write_yaml(tiny_tree(loop={"steps": 100_000}, data=data)))
    read_until(process, "step 3/")
    os.killpg(process.pid, number)  # as a terminal or a scheduler does: to the loader's workers too
    said = finish(process, 130)
    state = load_state(tmp_path / "run")
    assert f"stopped and saved at step {state['step']}; run the same command to go on" in said
    assert "Traceback" not in said
    assert read_csv(tmp_path / "run" / "train.csv")["step"][-1] == state["step"]
    assert (tmp_path / "run" / "vqgan.safetensors").exists()
    assert not list((tmp_path / "run").rglob("*partial*"))


@pytest.mark.parametrize("codebook", ["ema", "nearest"])
def test_two_processes_learn_what_one_learns_from_the_same_pictures(
    tiny_tree, write_yaml, start_tessera, start_two, tmp_path, codebook
):
    tree = tiny_tree(model={"codebook": codebook}, loop={"steps": 1, "accumulate": 1}, loss={"restart_every": 1})
    config = write_yaml(tree)
    one = start_tessera("train", "vqgan", config, "--set", f"output={tmp_path}/one", "--set", "loop.batch=8")
    two = start_two("train", "vqgan", config, "--set", f"output={tmp_path}/two", "--set", "loop.batch=4")
    for process in (one, *two):
        finish(process)
    wanted, found = (load_state(tmp_path / name) for name in ("one", "two"))
    assert wanted["extra_state"]["last_counts"].sum() == 8 * 8 * 8
    moments = [state["exp_avg"] for state in wanted["optimizers"]["model"]["state"].values()]
    for name in ("codebook.embedding.weight", "codebook.ema_sum", "codebook.ema_count"):
        if name in wanted["modules"]["model"]:
            other, codes = (state["modules"]["model"][name] for state in (found, wanted))
            # Adam's first step is as long whatever the gradient: where that is near 0, its last bits decide
            gradient = next((m for m in moments if m.shape == codes.shape), torch.ones_like(codes))
            certain = gradient.abs() > 1e-5
            assert certain.float().mean() > 0.5
            torch.testing.assert_close(other[certain], codes[certain])
    torch.testing.assert_close(found["extra_state"], wanted["extra_state"])
    # Adam's first moment after one step is the gradient times 1 - beta
    for parameter, moments in wanted["optimizers"]["model"]["state"].items():
        gradient = moments["exp_avg"]
        other = found["optimizers"]["model"]["state"][parameter]["exp_avg"]
        torch.testing.assert_close(other, gradient, rtol=1e-3, atol=1e-5)


def test_processes_share_a_prior_s_encoding_end_when_one_dies_and_resume_to_the_bits(
    prior_tree, prior_run, write_yaml, start_two, tmp_path
):
    tree = prior_tree(loop={"steps": 8, "save_every": 2, "validate_every": 4, "batch": 2})
    tree["model"]["dropout"] = 0.1
    config = write_yaml(tree)
    whole, parts = (["--set", f"output={tmp_path}/{name}"] for name in ("whole", "parts"))
    for process in start_two("train", "prior", config, *whole):
        finish(process)
    killed = start_two("train", "prior", config, *parts)
    read_until(killed[0], "step 5/8")
    killed[0].kill()
    said = finish(killed[1], 2)
    assert "tessera: error: another process of this run has ended, or was not heard of for 120 minutes" in said
    assert "then start all of them again with the same command, which goes on from what was saved" in said
    assert "Traceback" not in said
    resumed = start_two("train", "prior", config, *parts)
    assert "resumed at step" in finish(resumed[0])
    finish(resumed[1])
    wanted, found = (tensors_of(load_state(tmp_path / name)) for name in ("whole", "parts"))
    assert [name for name in wanted if not torch.equal(wanted[name], found[name])] == []
    assert load_state(tmp_path / "whole")["items"] == 8 * 2 * 2

    run = prior_run(output=str(tmp_path / "alone"))
    accelerator = make_accelerator(run.loop)
    load_codes(run, load_views(run), accelerator, *load_stages(run, accelerator))
    made = [{p.name: load_file(p) for p in (tmp_path / n).glob("codes-*.safetensors")} for n in ("whole", "alone")]
    assert len(made[0]) == 2
    for name, codes in made[0].items():
        assert all(torch.equal(tensor, made[1][name][key]) for key, tensor in codes.items())


def test_two_processes_stop_together_when_one_is_interrupted(tiny_tree, write_yaml, start_two, tmp_path):
    processes = start_two("train", "vqgan", write_yaml(tiny_tree(loop={"steps": 100_000})))
    read_until(processes[0], "step 3/")
    processes[1].send_signal(signal.SIGINT)
    said = [finish(process, 130) for process in processes]
    step = load_state(tmp_path / "run")["step"]
    assert f"stopped and saved at step {step};" in said[0]
    assert "stopped" not in said[1]
