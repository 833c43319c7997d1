"""Help pages, translations and example workflows belong to the nodes that there are."""

import json
import re
from pathlib import Path

import pytest

from tessera.nodes import NODES

ROOT = Path(__file__).resolve().parent.parent.parent
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
FOREIGN = {  # ComfyUI's own nodes that the workflows use
    "LoadImage", "PreviewImage", "PreviewAny", "ImageScale", "ImageCrop", "ImageFlip", "ImageStitch",
    "ImagePadForOutpaint", "SolidMask", "MaskComposite", "MaskPreview", "LatentFlip", "LatentBlend", "MarkdownNote",
    "ImageToMask", "InvertMask", "EmptyImage", "CreateVideo", "SaveVideo", "CheckpointLoaderSimple", "CLIPTextEncode",
    "VAEEncode", "VAEDecode", "SetLatentNoiseMask", "KSampler", "Canny", "CLIPLoader", "CLIPVisionLoader",
}  # fmt: skip
MUTED = 2  # a node's mode: not run, since a fresh ComfyUI lacks the file it loads
SEEDED = {
    "TesseraSampleCodes", "TesseraSweepSettings", "TesseraBestOf", "TesseraPaintByWords", "TesseraPaintStory",
    "TesseraRestyle", "TesseraSteerByWords", "TesseraGate", "TesseraAnimateTemperature", "KSampler",
}  # fmt: skip


@pytest.fixture
def schemas(host) -> dict:
    from tessera.nodes.host.comfy import register_model_folders

    register_model_folders()
    return {schema.node_id: schema for schema in (node.define_schema() for node in NODES)}


def workflow(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_each_node_has_a_help_page_that_names_all_it_has(schemas):
    pages = {path.parent.name for path in (ROOT / "web" / "docs").glob("*/en.md")}
    assert pages == set(schemas)
    for name, schema in schemas.items():
        page = (ROOT / "web" / "docs" / name / "en.md").read_text(encoding="utf-8")
        assert page.startswith(f"# {schema.display_name}\n")
        for thing in [*schema.inputs, *schema.outputs]:
            label = getattr(thing, "id", None) or thing.display_name
            assert f"| `{label}` |" in page, f"{name}: {label}"
            assert thing.tooltip in page, f"{name}: {label}"


def test_help_pages_name_workflows_that_exist():
    names = {path.stem for path in WORKFLOWS}
    for page in (ROOT / "web" / "docs").glob("*/en.md"):
        assert set(re.findall(r"\*(\d\d-[a-z-]+)\*", page.read_text(encoding="utf-8"))) <= names, page.parent.name


def test_each_help_page_shows_its_node_where_the_host_looks_and_where_a_code_host_does():
    """ComfyUI looks from web/docs, whichever folder the page is in; a code host from the page."""
    for page in (ROOT / "web" / "docs").glob("*/en.md"):
        pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
        assert pictures, page.parent.name
        for picture in pictures:
            seen = [page.parent / picture, page.parent.parent / picture]
            assert seen[0].read_bytes() == seen[1].read_bytes(), picture


def test_each_help_page_tells_the_limits():
    for page in (ROOT / "web" / "docs").glob("*/en.md"):
        assert "\n## Limits\n" in page.read_text(encoding="utf-8"), page.parent.name


def test_readme_has_a_line_for_each_node(schemas):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, schema in schemas.items():
        assert f"| [{schema.display_name}](web/docs/{name}/en.md) |" in readme


def test_spanish_names_belong_to_the_nodes_that_there_are(schemas):
    spanish = json.loads((ROOT / "locales" / "es" / "nodeDefs.json").read_text(encoding="utf-8"))
    assert set(spanish) == set(schemas)
    for name, schema in schemas.items():
        assert spanish[name]["display_name"]
        assert spanish[name]["description"].endswith(".")
        assert list(spanish[name]["inputs"]) == [one.id for one in schema.inputs]
        assert list(spanish[name]["outputs"]) == [str(i) for i in range(len(schema.outputs))]
        for said in [*spanish[name]["inputs"].values(), *spanish[name]["outputs"].values()]:
            assert said["name"]
            assert said["tooltip"].endswith("."), name
        english = {thing.tooltip for thing in [*schema.inputs, *schema.outputs]}
        assert not english & {said["tooltip"] for said in spanish[name]["inputs"].values()}, name


def test_each_node_is_in_a_workflow(schemas):
    used = {node["type"] for path in WORKFLOWS for node in workflow(path)["nodes"]}
    assert used - FOREIGN == set(schemas)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_is_one_that_anybody_can_open(path, schemas):
    nodes = workflow(path)["nodes"]
    assert {node["type"] for node in nodes} <= set(schemas) | FOREIGN
    assert any(node["type"] == "MarkdownNote" for node in nodes)
    for node in nodes:
        if node["type"] in SEEDED:
            assert "fixed" in node["widgets_values"]  # the note's picture comes back
        assert node["type"] != "LoadImage", "a fresh ComfyUI lacks the file"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_widget_values_fit_the_nodes(path, schemas):
    for node in workflow(path)["nodes"]:
        schema = schemas.get(node["type"])
        if schema is None:
            continue
        widgets = [one for one in schema.inputs if getattr(one, "default", None) is not None or hasattr(one, "options")]
        extra = 1 if node["type"] in SEEDED else 0
        assert len(node["widgets_values"]) == len(widgets) + extra, node["type"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_nodes_do_not_overlap_and_leave_room_for_wider_ones(path):
    boxes = [(node["pos"], node["size"]) for node in workflow(path)["nodes"]]
    for i, ((x, y), (width, height)) in enumerate(boxes):
        for (other_x, other_y), (other_width, other_height) in boxes[i + 1 :]:
            beside = x + width + 100 <= other_x or other_x + other_width + 100 <= x
            below = y + height + 60 <= other_y or other_y + other_height + 60 <= y
            assert beside or below, f"{(x, y)} and {(other_x, other_y)}"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_for_scripts_is_the_same(path):
    """`workflows/api` is exported by the front end; here only what would show that one of the two is stale."""
    shown, sent = workflow(path), json.loads((path.parent / "api" / path.name).read_text(encoding="utf-8"))
    muted = {node["id"] for node in shown["nodes"] if node["mode"] == MUTED}
    nodes = {
        str(node["id"]): node for node in shown["nodes"] if node["type"] != "MarkdownNote" and node["id"] not in muted
    }
    assert {name: node["class_type"] for name, node in sent.items()} == {n: node["type"] for n, node in nodes.items()}
    links = sum(isinstance(value, list) for node in sent.values() for value in node["inputs"].values())
    assert links == sum(to not in muted for _, _, _, to, *_ in shown["links"])
    for name, node in sent.items():
        if node["class_type"] in FOREIGN:
            continue  # the front end adds widgets of its own to some
        values = [value for value in node["inputs"].values() if not isinstance(value, list)]
        assert all(value in nodes[name]["widgets_values"] for value in values), node["class_type"]


def test_no_workflow_for_scripts_is_left_over():
    assert {path.name for path in (ROOT / "workflows" / "api").glob("*.json")} == {path.name for path in WORKFLOWS}
