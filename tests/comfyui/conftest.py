"""A real ComfyUI server with this checkout in it, from the ComfyUI checkout that COMFYUI_DIR names; else skipped.

COMFYUI_PYTHON names the interpreter with ComfyUI's requirements, if it is not the one that runs the tests.
The test side needs aiohttp, which ComfyUI brings, and for the page playwright and a Chromium, else those tests are
skipped. COMFYUI_NEWEST_FRONTEND names the folder of a newer comfyui_frontend_package, to see the page with it, too.
"""

import asyncio
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent.parent
COMFYUI = os.environ.get("COMFYUI_DIR")
PACK = "any-name-12"  # ComfyUI itself finds no help pages in a folder with a dot, and no scripts in one with a space
KINDS = ("edges", "depth", "segmentation", "low-resolution", "class", "coordinates", "layout", "none")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
TEXT, PICTURE, PICTURE_OF_NODE = 3, 1, 4  # the first number of a binary message


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in Path(item.path).parents and not COMFYUI:
            item.add_marker(pytest.mark.skip(reason="COMFYUI_DIR names no ComfyUI checkout"))


@dataclass
class Report:
    """What a client saw of one run."""

    status: str = ""
    error: str = ""
    refused: dict[str, Any] = field(default_factory=dict)
    previews: list[bytes] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)  # node, what it wrote above itself
    progress: list[tuple[int, int]] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)


class Server:
    """Talks to a running ComfyUI as its front end does."""

    def __init__(self, folder: Path, port: int, process: subprocess.Popen):
        self.folder, self.url, self.process = folder, f"http://127.0.0.1:{port}", process

    def memory(self) -> int:
        """Bytes that the server holds."""
        import psutil

        return psutil.Process(self.process.pid).memory_info().rss

    @property
    def log(self) -> str:
        return (self.folder / "log.txt").read_text(encoding="utf-8")

    def get(self, path: str) -> Any:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.url + path, timeout=30) as answer:
            return json.load(answer)

    def post(self, path: str, data: Any) -> Any:
        request = urllib.request.Request(
            self.url + path, json.dumps(data).encode(), {"Content-Type": "application/json"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            return json.loads(answer.read() or "null")

    def run_all(self, prompts: list[dict[str, Any]]) -> list[str]:
        """Queue all at once, as a script would; how each ended."""
        names = [self.post("/prompt", {"prompt": prompt})["prompt_id"] for prompt in prompts]
        while any(self.get("/queue").values()):
            time.sleep(0.5)
        history = self.get("/history")
        return [history[name]["status"]["status_str"] for name in names]

    def run(self, prompt: dict[str, Any], interrupt_after_progress: int = 0) -> Report:
        """Queue an API-format workflow and wait for its end."""
        return asyncio.run(asyncio.wait_for(self.watch(prompt, interrupt_after_progress), 300))

    async def watch(self, prompt: dict[str, Any], interrupt_after_progress: int) -> Report:
        import aiohttp

        report = Report()
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(f"{self.url}/ws?clientId=test", max_msg_size=0) as messages:
                await messages.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
                async with session.post(f"{self.url}/prompt", json={"prompt": prompt, "client_id": "test"}) as answer:
                    body = await answer.json()
                    if answer.status != 200:
                        report.status, report.refused = "refused", body
                        return report
                async for message in messages:
                    if message.type == aiohttp.WSMsgType.BINARY:
                        kind, length = struct.unpack(">II", message.data[:8])
                        if kind == PICTURE_OF_NODE:
                            report.previews.append(message.data[8 + length :])
                        elif kind == TEXT:
                            node, text = message.data[8 : 8 + length], message.data[8 + length :]
                            report.texts.append((node.decode(), text.decode()))
                        continue
                    event = json.loads(message.data)
                    data = event.get("data") or {}
                    if event["type"] == "progress":
                        report.progress.append((data["value"], data["max"]))
                        if interrupt_after_progress and len(report.progress) == interrupt_after_progress:
                            await session.post(f"{self.url}/interrupt", json={})
                    elif event["type"] == "execution_error":
                        report.error = data["exception_message"].strip()
                    elif event["type"] == "executing" and data.get("node"):
                        report.executed.append(data["node"])
                    elif event["type"] == "executing" and data.get("prompt_id") == body["prompt_id"]:
                        break
            async with session.get(f"{self.url}/history/{body['prompt_id']}") as answer:
                entry = (await answer.json())[body["prompt_id"]]
        report.status = entry["status"]["status_str"]
        report.outputs = entry["outputs"]
        return report

    def pictures(self, report: Report, node: str) -> np.ndarray:
        """What a node showed or saved: [B, H, W, 3] uint8."""
        files = report.outputs[node]["images"]
        folders = {"temp": self.folder / "temp", "output": self.folder / "output"}
        paths = [folders[f["type"]] / f["subfolder"] / f["filename"] for f in files]
        return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory, make_bundle) -> Path:
    """A folder with one tiny random model for each kind of condition, and for each published model of the workflows."""
    from tessera.core.autoencoders.vqgan_file import save_vqgan
    from tessera.core.bundle_file import save_bundle
    from tessera.tests.comfyui.stand_ins import write_stand_ins

    folder = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        save_bundle(folder / "vq_transformer" / f"{kind}.safetensors", make_bundle(kind))
    save_vqgan(folder / "vqgan" / "codec.safetensors", make_bundle("none").vqgan)
    write_stand_ins(folder)
    (folder / "vq_transformer" / "README.md").write_text("not a model", encoding="utf-8")
    (folder / "vq_transformer" / "broken.safetensors").write_bytes(b"not a model either")
    return folder


@contextmanager
def running_server(folder: Path, models: Path, *arguments: str) -> Iterator[Server]:
    """A ComfyUI with this checkout in it, whose files are all in an empty folder."""
    for name in ("custom_nodes", "input", "output", "temp", "user"):
        (folder / name).mkdir()
    (folder / "custom_nodes" / PACK).symlink_to(ROOT, target_is_directory=True)
    (folder / "models").symlink_to(models, target_is_directory=True)
    pixels = torch.rand(19, 26, 3, generator=torch.Generator().manual_seed(0)).mul(255).byte().numpy()
    Image.fromarray(pixels).resize((260, 190)).save(folder / "input" / "noise.png")
    Image.fromarray(pixels).save(folder / "input" / "small.png")
    for name in ("photograph.jpg", "drawing.png"):
        (folder / "input" / name).write_bytes((ROOT / "assets" / name).read_bytes())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        os.environ.get("COMFYUI_PYTHON", sys.executable), f"{COMFYUI}/main.py", "--listen", "127.0.0.1",
        "--port", str(port), "--base-directory", str(folder), "--user-directory", str(folder / "user"),
        "--database-url", f"sqlite:///{folder}/user/comfyui.db", "--disable-api-nodes", "--disable-auto-launch",
        *arguments,
    ]  # fmt: skip
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    running = Server(folder, port, process)
    try:
        wait_for(running)
        yield running
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session")
def server(tmp_path_factory, tiny_models) -> Iterator[Server]:
    """A server that runs while the tests of this folder do."""
    with running_server(tmp_path_factory.mktemp("comfyui"), tiny_models, "--cpu") as running:
        yield running


@pytest.fixture(scope="session")
def newest_server(tmp_path_factory, tiny_models) -> Iterator[Server]:
    """The same with another front end: the package's folder that COMFYUI_NEWEST_FRONTEND names."""
    package = os.environ.get("COMFYUI_NEWEST_FRONTEND")
    if not package:
        pytest.skip("COMFYUI_NEWEST_FRONTEND names no comfyui_frontend_package")
    arguments = ("--cpu", "--front-end-root", str(Path(package).resolve() / "static"))
    with running_server(tmp_path_factory.mktemp("newest"), tiny_models, *arguments) as running:
        yield running


def wait_for(server: Server) -> None:
    for _ in range(1200):  # ten minutes: the machine may be busy
        if server.process.poll() is not None:
            pytest.fail(f"ComfyUI ended while starting:\n{server.log[-3000:]}")
        try:
            server.get("/system_stats")
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
    pytest.fail(f"ComfyUI does not answer:\n{server.log[-3000:]}")


@pytest.fixture(scope="module")
def browser():
    """Chromium. Not for the whole session: it would keep the tests that talk to the server from their event loop."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if not found:
        pytest.skip("no Chromium is installed")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(
    scope="module",
    params=[("server", False), ("server", True), ("newest_server", False), ("newest_server", True)],
    ids=["bundled, canvas", "bundled, Vue", "newest, canvas", "newest, Vue"],
)
def screen(request, browser, tmp_path_factory):
    """The page, with each front end and each way to draw nodes."""
    from tessera.tests.comfyui.browser import Screen

    name, vue = request.param
    server = request.getfixturevalue(name)
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    opened = Screen(page, server, PACK, vue, tmp_path_factory.mktemp("shots"))
    opened.open()
    version = page.evaluate("() => window.__COMFYUI_FRONTEND_VERSION__")
    opened.has_panel = not (vue and version.startswith("1.27."))  # its Vue nodes show no element of any script
    yield opened
    page.close()


@pytest.fixture
def nothing_goes_wrong(screen):
    """Neither our scripts nor requests for our files fail."""
    screen.errors.clear()
    yield
    assert screen.errors == []
