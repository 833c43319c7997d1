"""The panel of the nodes that train, in the page: it finds a run in its folder, whoever started it.

In the front ends and ways to draw nodes of `test_page.py`.
"""

import csv
import json
import re
from pathlib import Path

import pytest
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_goes_wrong")]

SAID = "step 20/100  l1 0.2  |  3% of codes dead: restart is on\nstopped and saved at step 20\n"


def write_run(server, name: str, arguments: list[str]) -> Path:
    """The folder of a run that was stopped, as the training program leaves it."""
    folder = server.folder / "output" / "training" / name
    (folder / "pictures").mkdir(parents=True)
    with (folder / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["step", "l1", "dead_codes"], *([step, 4 / step, 30] for step in range(1, 21))])
    (folder / "validation.csv").write_text("step,psnr\n20,17.5\n")
    (folder / "log.txt").write_text(SAID)
    Image.new("RGB", (64, 32), "red").save(folder / "pictures" / "reconstruction-0000020.png")
    (folder / "process.json").write_text(json.dumps({"arguments": arguments, "pid": 2**22 + 1, "began": 0}))
    return folder


def widgets(name: str) -> dict:
    return {
        "name": name, "do": "look", "pictures": "", "size": 64, "batch": 2, "steps": 100, "model": "small",
        "start_from": "nothing", "more": "",
    }  # fmt: skip


def test_panel_shows_a_run_that_was_there_before_the_page_and_lets_it_go_on(screen):
    if not screen.has_panel:
        pytest.skip("this front end shows no elements in Vue nodes")
    name = f"run {len(list((screen.server.folder / 'output').rglob('process.json')))}"
    folder = write_run(screen.server, name, ["train", "vqgan", "no-such-file.yaml"])
    screen.load({"1": {"class_type": "TesseraTrainVQGAN", "inputs": widgets(name)}})
    panel = screen.page.locator(".tessera-training")
    panel.get_by_text(f"{name} does not train: step 20 of 100; stopped and saved at step 20").wait_for()
    assert "dead codes 30" in panel.inner_text()
    assert "held out: psnr 17.5" in panel.inner_text()
    assert panel.locator("canvas").get_attribute("aria-label") == "l1 4 to 0.2, step 1 to 20"
    screen.page.wait_for_function("() => document.querySelector('.tessera-training img').naturalWidth === 64")
    screen.see_all()  # the node has grown
    screen.shot("panel of training")
    stop, go_on = (panel.get_by_text(words, exact=True) for words in ("Stop", "Go on"))
    assert stop.is_disabled()
    go_on.click()
    panel.get_by_text(re.compile("needs packages|no-such-file.yaml")).wait_for()
    if "needs packages" not in panel.inner_text():  # where ComfyUI's Python has them, the program says what is wrong
        assert json.loads((folder / "process.json").read_text())["pid"] != 2**22 + 1
        assert "no-such-file.yaml" in (folder / "log.txt").read_text().removeprefix(SAID)
