"""Rules that every node keeps."""

import ast
import asyncio
import inspect
import sys
from pathlib import Path

import pytest

from tessera import comfy_entrypoint
from tessera.nodes import NODES

ROOT = Path(__file__).resolve().parent.parent.parent
IDS = {
    "TesseraLoadBundle", "TesseraSampleCodes", "TesseraSamplingSettings", "TesseraTemperatureMap", "TesseraEdges",
    "TesseraDepth", "TesseraSegmentation", "TesseraLowResolution", "TesseraClassLabel", "TesseraLoadVQGAN",
    "TesseraCaption",
    "TesseraEncodeCanvas", "TesseraDecodeCanvas", "TesseraEncodeLatent", "TesseraQuantize", "TesseraDecodeLatent",
    "TesseraEmptyCanvas", "TesseraKeepHalf", "TesseraForget", "TesseraLock", "TesseraOutpaint", "TesseraCropCanvas",
    "TesseraPasteCanvas", "TesseraRollCanvas", "TesseraBlendCanvas", "TesseraShowCanvas", "TesseraSaveCanvas",
    "TesseraLoadCanvas", "TesseraRecallCanvas", "TesseraSweepSettings", "TesseraBestOf", "TesseraCodebookAtlas",
    "TesseraComparePictures", "TesseraCompareCanvases", "TesseraExamplePicture", "TesseraSavePicture",
    "TesseraLoadCanvasOfPicture", "TesseraSlidingWindow", "TesseraPlanRun", "TesseraTilePreview", "TesseraLayout",
    "TesseraDownloadModel", "TesseraCropAroundMask", "TesseraPutBack", "TesseraAgreeWithSmallPicture",
    "TesseraAnimateTemperature", "TesseraTravel",
    "TesseraRollFrames", "TesseraPaletteOfPicture", "TesseraBanAndBoost",
    "TesseraLoadCLIP", "TesseraPaintByWords", "TesseraPaintSettings", "TesseraWordsPrompt", "TesseraPicturePrompt",
    "TesseraPaintStory", "TesseraRestyle", "TesseraRankByWords", "TesseraClassify",
    "TesseraSteerByWords", "TesseraGate", "TesseraLoadDiscriminator", "TesseraPairCLIP",
    "TesseraEncodePrompt", "TesseraPrompt", "TesseraSavePrompt", "TesseraLoadPrompt", "TesseraControl",
    "TesseraSketch", "TesseraEmphasis", "TesseraTrainVQGAN", "TesseraTrainPrior",
}  # fmt: skip


@pytest.fixture(params=NODES, ids=lambda node: node.__name__)
def node(request, host):
    """Each node; model folders are known, as after ComfyUI has asked for the nodes."""
    from tessera.nodes.host.comfy import register_model_folders

    register_model_folders()
    return request.param


def test_comfyui_gets_all_nodes(host):
    async def ask():
        return await (await comfy_entrypoint()).get_node_list()

    assert asyncio.run(ask()) == NODES
    assert set(host.folders) == {"vqgan", "vq_transformer", "text_encoders", "tessera_clip"}


def test_ids_are_those_that_were_released_and_new_ones(host):
    listing = {
        "file",
        "encoder",
        "start_from",
        "vqgan_file",
    }  # inputs that list folders, known to ComfyUI only
    others = [node for node in NODES if not listing & set(inspect.signature(node.execute).parameters)]
    found = [node.define_schema().node_id for node in others]
    assert len(set(found)) == len(found)
    assert set(found) <= IDS


def test_every_released_id_is_there(node):
    assert node.define_schema().node_id in IDS


def test_everything_is_explained(node):
    schema = node.define_schema()
    assert schema.display_name
    assert schema.category == "Tessera" or schema.category.startswith("Tessera/")
    assert len(schema.description) > 20
    for thing in [*schema.inputs, *schema.outputs]:
        assert (thing.tooltip and thing.tooltip[0].isupper()) or thing.tooltip[0].isdigit() or ":" in thing.tooltip
        assert thing.tooltip.endswith(".")
    assert all(output.display_name for output in schema.outputs)


def test_execute_takes_the_schemas_inputs(node):
    schema = node.define_schema()
    parameters = inspect.signature(node.execute).parameters
    assert [name for name in parameters] == [one.id for one in schema.inputs]
    for one in schema.inputs:
        assert (parameters[one.id].default is None) == one.optional


def test_optional_inputs_come_last(node):
    """The front end lists them last whatever the schema says; saved widget values would shift otherwise."""
    optional = [one.optional for one in node.define_schema().inputs]
    assert optional == sorted(optional)


def test_defaults_are_allowed(node):
    for one in node.define_schema().inputs:
        if getattr(one, "min", None) is not None:
            assert one.min <= one.default <= one.max, one.id
        if getattr(one, "options", None) and one.default is not None:
            assert one.default in one.options, one.id


def test_nodes_are_thin():
    """A schema and a few lines that call core: no loops, no tensors made or computed with."""
    for path in sorted((ROOT / "nodes").glob("*.py")):
        for kind in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(kind, ast.ClassDef) or "io.ComfyNode" not in map(ast.unparse, kind.bases):
                continue
            for method in kind.body:
                if isinstance(method, ast.FunctionDef) and method.name == "execute":
                    assert len(method.body) <= 10, f"{path.name} {kind.name}"
                    assert not any(isinstance(part, ast.For | ast.While) for part in ast.walk(method)), kind.name


def test_importing_the_package_imports_no_host_and_no_nodes():
    import subprocess

    code = (
        "import importlib.util as u, sys;"
        f"s = u.spec_from_file_location('pack', r'{ROOT / '__init__.py'}', submodule_search_locations=[r'{ROOT}']);"
        "m = u.module_from_spec(s); sys.modules['pack'] = m; s.loader.exec_module(m);"
        "print(sorted(n for n in sys.modules if n.startswith(('torch', 'comfy', 'pack.'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_each_node_is_found_under_other_words_too(node):
    """Newer hosts search for them; an entry for each node is in nodes/search.py."""
    schema = node.define_schema()
    assert len(schema.search_aliases) >= 2
    assert all(word == word.lower() for word in schema.search_aliases)


def test_words_belong_to_nodes_that_there_are():
    from tessera.nodes.search import WORDS

    assert set(WORDS) <= IDS
