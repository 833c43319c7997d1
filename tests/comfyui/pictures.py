"""Makes the pictures that show what Tessera does: runs every workflow in a real ComfyUI with its page.

    COMFYUI_DIR=../ComfyUI COMFYUI_PYTHON=... python -m tessera.tests.comfyui.pictures [NAME ...]

workflows/NAME.jpg is the finished picture of each workflow, web/pictures and web/docs/pictures hold each node as it
looks after a run (the same files twice: ComfyUI looks for a help page's pictures one folder higher than a code host
does), and docs/pictures those screens that the README shows. workflows/api is written anew as the front end sends it.
Workflows of published models run only where those are at hand; else their picture is a card with what they are given.
Needs what the tests of this folder need, and half an hour.
"""

import argparse
import io
import json
import shutil
import sys
import tempfile
import textwrap
from math import ceil, sqrt
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps
from playwright.sync_api import sync_playwright

from .browser import Screen
from .conftest import FLAGS, PACK, ROOT, running_server

SIDE = 400  # of a workflow's picture, pixels
GROUND, INK, FAINT = (32, 34, 40), (240, 240, 240), (160, 165, 175)  # of a card
NODE = 560  # width of a node's picture at most
WHOLE = {"01-drawing-to-pictures": "drawing-to-pictures", "06-inpaint": "inpainting"}  # screens of the README
LAST = (
    "TesseraPutBack", "PreviewImage", "TesseraTravel", "TesseraSweepSettings", "TesseraBestOf", "TesseraCodebookAtlas",
    "TesseraTilePreview", "TesseraSteerByWords", "TesseraGate", "TesseraPaintByWords", "TesseraSampleCodes",
    "TesseraRankByWords", "TesseraClassify", "TesseraShowCanvas",
)  # fmt: skip
SETTINGS = {"Comfy.NodeBadge.NodeSourceBadgeMode": "None", "LiteGraph.Canvas.MinFontSizeForLOD": 0}  # texts at any size
LOADERS = ("TesseraDownloadModel", "CheckpointLoaderSimple", "TesseraLoadBundle")
BOX = """(id) => {
    const node = app.graph.getNodeById(id), ds = app.canvas.ds, top = node.pos[1] - 30;
    ds.scale = 1;
    [ds.offset[0], ds.offset[1]] = [120 - node.pos[0], 120 - top];
    app.canvas.links_render_mode = LiteGraph.HIDDEN_LINK;
    node.mode = 0;  // those that a fresh ComfyUI can't run are muted
    app.canvas.setDirty(true, true);
    const frame = app.canvas.canvas.getBoundingClientRect();
    const height = node.pos[1] + node.size[1] - top;
    return {x: frame.left + 110, y: frame.top + 110, width: node.size[0] + 20, height: Math.min(height + 20, 860)};
}"""


def grid(pictures: list[Image.Image], side: int) -> Image.Image:
    """Pictures of one size on a sheet whose longer side has so many pixels."""
    columns = ceil(sqrt(len(pictures)))
    width, height = pictures[0].size
    sheet = Image.new("RGB", (columns * width, ceil(len(pictures) / columns) * height), "white")
    for i, one in enumerate(pictures):
        sheet.paste(one.convert("RGB"), (i % columns * width, i // columns * height))
    sheet.thumbnail((side, side), Image.Resampling.LANCZOS)
    return sheet


def finished(folder: Path, outputs: dict, graph: dict) -> list[Image.Image]:
    """What the node that matters most in a workflow made, of a run's outputs."""
    kinds = {str(node["id"]): node["type"] for node in graph["nodes"]}
    made = {name: one["images"] for name, one in outputs.items() if one.get("images")}
    made = {name: images for name, images in made.items() if kinds.get(name) in LAST}
    right = {str(node["id"]): node["pos"][0] for node in graph["nodes"]}
    best = min(made, key=lambda name: (LAST.index(kinds[name]), -right[name], -int(name)))
    return [Image.open(folder / one["type"] / one["subfolder"] / one["filename"]) for one in made[best]]


def card(graph: dict) -> Image.Image:
    """What a workflow does and what it is given, for one whose model is not at hand."""
    kinds = {node["type"]: node["widgets_values"] for node in graph["nodes"]}
    sheet = Image.new("RGB", (SIDE, SIDE), GROUND)
    draw, title = ImageDraw.Draw(sheet), kinds["MarkdownNote"][0].split("\n")[0].lstrip("# ")
    write(draw, title, 24, 30, INK)
    if "TesseraExamplePicture" in kinds:
        example = Image.open(ROOT / "assets" / kinds["TesseraExamplePicture"][0]).convert("RGB")
        sheet.paste(ImageOps.fit(example, (170, 170)), (24, 115))
    for kind, number in (("TesseraEncodePrompt", 1), ("TesseraCaption", 0), ("TesseraLayout", 0)):
        if kind in kinds:
            write(draw, str(kinds[kind][number]), 298 if "TesseraExamplePicture" in kinds else 130, 18, FAINT)
    loader = next(kind for kind in LOADERS if kind in kinds)
    write(draw, f"needs {kinds[loader][0].split(' - ')[0]}", SIDE - 40, 16, FAINT)
    return sheet


def write(draw: ImageDraw.ImageDraw, text: str, top: int, size: int, color: tuple[int, int, int]) -> None:
    """Text in lines that fit a card."""
    lines = [line for part in text.split("\n") for line in textwrap.wrap(part, int(SIDE / size * 1.7))]
    draw.multiline_text((24, top), "\n".join(lines), color, ImageFont.load_default(size), spacing=6)


def show_node(screen: Screen, number: int, kind: str) -> None:
    """Keep a picture of one node."""
    box = screen.page.evaluate(BOX, number)
    screen.settle()
    picture = Image.open(io.BytesIO(screen.page.screenshot(clip=box))).convert("RGB")
    picture.thumbnail((NODE, 2 * NODE), Image.Resampling.LANCZOS)
    for folder in (ROOT / "web" / "pictures", ROOT / "web" / "docs" / "pictures"):
        folder.mkdir(exist_ok=True)
        picture.save(folder / f"{kind}.jpg", quality=85, optimize=True)


def make(screen: Screen, path: Path, nodes: set[str], only_open: bool) -> str:
    """All pictures of one workflow; how its run ended. `nodes` are those that have their picture."""
    graph = json.loads(path.read_text(encoding="utf-8"))
    screen.load(graph)
    sent = screen.page.evaluate("async () => JSON.stringify((await app.graphToPrompt()).output, null, 1)")
    (path.parent / "api" / path.name).write_text(f"{sent}\n", encoding="utf-8")
    ended = "" if only_open else screen.run()
    if ended == "execution_success":
        run = screen.page.evaluate("() => window.run")
        outputs = screen.server.get(f"/history/{run}")[run]["outputs"]
        finished_of = "(names) => !names.some((name) => app.nodePreviewImages[name])"  # films keep their last preview
        screen.page.wait_for_function(finished_of, arg=list(outputs))
        screen.page.wait_for_timeout(2000)
        grid(finished(screen.server.folder, outputs, graph), SIDE).save(
            path.with_suffix(".jpg"), quality=85, optimize=True
        )
    elif not only_open:
        screen.page.keyboard.press("Escape")
        screen.page.wait_for_timeout(1000)
    screen.page.evaluate("() => { app.canvas.links_render_mode = LiteGraph.SPLINE_LINK; }")  # hidden by a node's
    screen.see_all()
    screen.shot(path.stem)
    if not (ended == "execution_success" or path.with_suffix(".jpg").exists()):
        card(graph).save(path.with_suffix(".jpg"), quality=85, optimize=True)
    if path.stem in WHOLE and ended == "execution_success":
        seen = Image.open(screen.shots / f"{path.stem}.png").convert("RGB").quantize(255, dither=Image.Dither.NONE)
        seen.save(ROOT / "docs" / "pictures" / f"{WHOLE[path.stem]}.png", optimize=True)
    for node in graph["nodes"]:
        kind = node["type"]
        new = kind not in nodes and not (only_open and (ROOT / "web" / "pictures" / f"{kind}.jpg").exists())
        if kind.startswith("Tessera") and new:
            show_node(screen, node["id"], kind)
            if ended == "execution_success":
                nodes.add(kind)
    return ended


def main(arguments: list[str]) -> None:
    """Run the workflows named, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="workflows, by the beginning of their names; all if none is given")
    parser.add_argument("--shots", type=Path, help="folder for a picture of the page after each run")
    parser.add_argument("--open", action="store_true", help="only open them, for workflows/api and pictures of nodes")
    args = parser.parse_args(arguments)
    paths = sorted((ROOT / "workflows").glob("*.json"))
    wanted = [path for path in paths if not args.names or path.stem.startswith(tuple(args.names))]
    folder = Path(tempfile.mkdtemp(prefix="tessera-pictures-"))
    shots, models = args.shots or folder / "shots", folder / "models"
    for one in (shots, models, folder / "server"):
        one.mkdir(parents=True, exist_ok=True)
    with running_server(folder / "server", models, "--cpu") as server, sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1600, "height": 1000}, device_scale_factor=1.5)
        screen = Screen(page, server, PACK, False, shots)
        page.set_default_timeout(1_200_000)
        server.post("/settings", SETTINGS)
        screen.open()
        nodes: set[str] = set()
        for path in wanted:
            print(path.stem, make(screen, path, nodes, args.open), flush=True)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:])
