"""What a run writes down besides its weights."""

import csv
import importlib.util
import io
import math
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tessera.core.images.sheet import GAP, LABEL, contact_sheet
from tessera.training.config.runs import LoopConfig
from tessera.training.engine.log import RunLog, read_csv
from tessera.training.engine.plots import draw_curves, image_grid, save_image
from tessera.training.engine.speed import Operations, Speed, measured_peak
from tessera.training.stages.vqgan import train_vqgan


def test_a_value_that_appears_later_becomes_a_column(tmp_path):
    log = RunLog(tmp_path, 0, active=True)
    log.scalars("train", 1, {"l1": 0.5})
    log.scalars("train", 2, {"l1": 0.25, "lambda": 3.0})
    log.scalars("train", 3, {"lambda": 4.0})
    log.close()
    found = read_csv(tmp_path / "train.csv")
    assert found["step"] == [1, 2, 3]
    assert found["l1"][:2] == [0.5, 0.25]
    assert math.isnan(found["l1"][2])
    assert math.isnan(found["lambda"][0])
    assert found["lambda"][1:] == [3, 4]


def test_rows_of_work_that_was_lost_are_dropped_on_resuming(tmp_path):
    log = RunLog(tmp_path, 0, active=True)
    for step in range(1, 8):
        log.scalars("train", step, {"l1": step / 10})
    RunLog(tmp_path, 4, active=True).scalars("train", 5, {"l1": 9.0})
    assert read_csv(tmp_path / "train.csv") == {"step": [1, 2, 3, 4, 5], "l1": [0.1, 0.2, 0.3, 0.4, 9.0]}


@pytest.mark.parametrize("content", ["", "step,l1\n1,0.5\n2,0.", "step,l1\n1,0.5\n\n"])
def test_a_log_cut_off_in_the_middle_of_a_line_is_gone_on_with(tmp_path, content):
    (tmp_path / "train.csv").write_text(content)
    RunLog(tmp_path, 1, active=True).scalars("train", 2, {"l1": 0.4})
    with (tmp_path / "train.csv").open(newline="") as file:
        assert list(csv.reader(file))[-1] == ["2", "0.4"]


def test_other_processes_write_nothing(tmp_path, caplog):
    log = RunLog(tmp_path / "none", 0, active=False)
    with caplog.at_level("INFO", "tessera"):
        log.scalars("train", 1, {"l1": 1.0})
        log.picture("strip", 1, torch.zeros(3, 4, 4))
        log.say("hello")
        log.close()
    assert not (tmp_path / "none").exists()
    assert not caplog.text


def test_a_tracker_that_is_not_installed_is_refused_before_anything_is_read(tiny_run, monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"loop\.trackers names wandb, which is not installed here; pip install wandb"):
        train_vqgan(tiny_run(loop={"trackers": ["wandb"]}))
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=r"loop\.trackers is 'excel'; choose one of tensorboard, wandb, trackio"):
        tiny_run(loop={"trackers": ["excel"]})


def test_a_resumed_run_goes_on_in_tensorboard_with_all_figures_and_pictures(tiny_run, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    loop = {"validate_every": 2, "trackers": ["tensorboard"]}
    for steps in (2, 4):
        assert train_vqgan(tiny_run(loop=loop | {"steps": steps}))
    shown = events.EventAccumulator(str(tmp_path / "run" / "tensorboard" / "tessera")).Reload()
    for name in ("train", "validation"):
        columns = read_csv(tmp_path / "run" / f"{name}.csv")
        steps = columns.pop("step")
        for column, values in columns.items():
            found = shown.Scalars(f"{name}/{column}")
            assert [one.step for one in found] == steps
            assert [one.value for one in found] == pytest.approx(values, rel=1e-4, abs=1e-5)
    assert {"train/learning_rate", "train/images_per_second", "train/data_wait", "train/mfu"} <= {
        *shown.Tags()["scalars"]
    }
    picture = shown.Images("reconstruction")[-1]
    assert picture.step == 4
    files = io.BytesIO(picture.encoded_image_string), tmp_path / "run" / "pictures" / "reconstruction-0000004.png"
    found, saved = (np.asarray(Image.open(file)).astype(int) for file in files)
    assert np.abs(found - saved).max() <= 1


def test_the_operations_of_a_step_are_those_of_its_products_forward_and_back():
    torch.manual_seed(0)
    loop = LoopConfig(log_every=1, peak_tflops=1e-6)
    speed = Speed(loop, 8, torch.device("cpu"))
    model, given = torch.nn.Linear(16, 4), torch.rand(8, 16)
    for _ in range(2):  # the second step is not counted
        with speed.working(), speed.counting():
            model(given).sum().backward()
    found = speed.figures()
    wanted = 2 * 8 * 16 * 4 * 2  # forward, and back to the weights
    assert found["mfu"] == pytest.approx(wanted / found["seconds_per_step"] / 1e6)
    assert found["images_per_second"] == pytest.approx(8 / found["seconds_per_step"])
    assert measured_peak(torch.device("cpu"), torch.float32) > 1e8


def test_the_grid_shows_pictures_row_by_row_and_fills_up_with_black():
    images = torch.stack([torch.full((1, 2, 3), value) for value in (-0.5, 0.0, 1.0)])
    found = image_grid(images, 2)
    assert found.shape == (3, 4, 6)
    assert (found[:, :2, :3] == -0.5).all()
    assert (found[:, :2, 3:] == 0).all()
    assert (found[:, 2:, :3] == 1).all()
    assert (found[:, 2:, 3:] == -1).all()


def test_curves_are_drawn_for_every_column(tmp_path):
    log = RunLog(tmp_path, 0, active=True)
    for step in range(5):
        log.scalars("train", step, {f"value {i}": step * i for i in range(9)})
    draw_curves(tmp_path, tmp_path / "curves.png")
    tall = Image.open(tmp_path / "curves.png").size
    log.scalars("validation", 1, {"psnr": 20.0})
    draw_curves(tmp_path, tmp_path / "curves.png")
    assert Image.open(tmp_path / "curves.png").size == tall  # ten plots fit the same three rows
    assert not list(tmp_path.glob("*partial*"))


def test_a_folder_without_a_log_can_not_be_drawn(tmp_path):
    with pytest.raises(ValueError, match="holds no log to draw; train first"):
        draw_curves(tmp_path, tmp_path / "curves.png")


def test_a_picture_that_can_not_be_written_leaves_nothing_behind(tmp_path):
    target = tmp_path / "taken.png"
    target.mkdir()
    with pytest.raises(OSError, match="taken"):
        save_image(Image.new("RGB", (4, 4)), target)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.png"]


def test_a_contact_sheet_has_a_labeled_row_for_each_setting():
    red, blue = Image.new("RGB", (10, 10), "red"), Image.new("RGB", (30, 30), "blue")
    sheet = contact_sheet([("first", [red, blue]), ("second", [blue])], side=40)
    assert sheet.size == (2 * 40 + 3 * GAP, 2 * (40 + LABEL + GAP) + GAP)
    row = 40 + LABEL + GAP
    centers = [sheet.getpixel((GAP + 20 + x, GAP + LABEL + 20 + y)) for x, y in ((0, 0), (48, 0), (0, row), (48, row))]
    assert centers == [(255, 0, 0), (0, 0, 255), (0, 0, 255), (255, 255, 255)]
    label = sheet.crop((0, row + 1, sheet.width, row + LABEL))
    assert label.getextrema()[0][0] < 128  # something is written there


def test_pictures_are_saved_by_step(tmp_path):
    log = RunLog(Path(tmp_path), 0, active=True)
    log.picture("samples", 12, torch.full((3, 4, 6), 0.0))
    found = Image.open(tmp_path / "pictures" / "samples-0000012.png")
    assert found.size == (6, 4)
    assert found.getpixel((0, 0)) == (128, 128, 128)


def test_counting_operations_changes_no_bit():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.GroupNorm(2, 8), torch.nn.SiLU(), torch.nn.Flatten())
    x, gradients = torch.randn(2, 3, 16, 16), []
    for counter in (Operations(), nullcontext()):
        model.zero_grad()
        with counter:
            model(x).square().mean().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
        if isinstance(counter, Operations):
            multiplied = 2 * 14 * 14 * 8 * 27  # pictures, places, channels, weights of each
            assert counter.number == 2 * multiplied * 2  # forward, and backward for the weights alone
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))
