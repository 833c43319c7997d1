"""The rules that keep the tree readable, checked on the source itself."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("core", "downloads", "nodes", "training", "benchmarks")
HOST = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "nodes", "server", "execution"}
# sub-packages and files of core, lowest first; each imports only what stands before it, and its own files
FLOORS = [
    "geometry", "modules", "storage", "images", "prefix", "autoencoders", "canvas", "priors", "conditions", "sampling",
    "bundle", "bundle_file", "checkpoints", "loading", "clip", "prepared", "calibration", "provenance", "inspection",
    "api",
]  # fmt: skip
SOURCES = sorted([*ROOT.glob("*.py"), *(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))])


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(level, dotted name's parts) of each import; `from ..core import image` is (2, ["core", "image"])."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            stem = node.module.split(".") if node.module else []
            yield from ((node.level, [*stem, alias.name]) for alias in node.names)


def imported_layer(path: Path, level: int, parts: list[str]) -> str | None:
    """The layer that a relative import reaches, or None."""
    package = path.relative_to(ROOT).parts[:-1]
    target = [*package[: len(package) - level + 1], *parts]
    return target[0] if level and target[0] in LAYERS else None


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_modules(path: Path) -> set[str]:
    """The repository's own modules that a file imports, for type checking only or not."""
    package, found = path.relative_to(ROOT).parts[:-1], set()
    for level, parts in imports_of(path):
        if level:
            target = [*package[: len(package) - level + 1], *parts]
            whole, without_name = ".".join(target), ".".join(target[:-1])
            found.add(whole if (ROOT / Path(*target)).with_suffix(".py").is_file() else without_name)
    return found - {module_of(path)}


def calls_of(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize(
    ("layer", "allowed"),
    [
        ("core", {"core"}),
        ("downloads", {"downloads", "core"}),
        ("training", {"training", "downloads", "core"}),
        ("nodes", {"nodes", "downloads", "core"}),
        ("benchmarks", {"benchmarks", "training", "downloads", "core"}),
    ],
)
def test_imports_go_down_only(layer, allowed):
    for path in (ROOT / layer).rglob("*.py"):
        reached = {imported_layer(path, *found) for found in imports_of(path)} - {None}
        assert reached <= allowed, name_of(path)


def test_nothing_imports_in_a_circle():
    graph = {module_of(path): imported_modules(path) for path in SOURCES}
    below = {name: found & graph.keys() for name, found in graph.items()}
    while leaves := [name for name, found in below.items() if not found]:
        below = {name: found - set(leaves) for name, found in below.items() if found}
    assert not below, f"a circle, or what stands above one: {sorted(below)}"


def test_floors_of_core_stand_in_order():
    for path in (ROOT / "core").rglob("*.py"):
        inside = path.relative_to(ROOT / "core").with_suffix("").parts
        if inside[0] == "__init__":
            continue
        allowed = FLOORS[: FLOORS.index(inside[0]) + 1]
        reached = {name.split(".")[1] for name in imported_modules(path) if name.startswith("core.")}
        assert reached <= set(allowed), name_of(path)


def test_files_and_folders_stay_readable():
    assert not {name_of(p): n for p in SOURCES if (n := len(p.read_text(encoding="utf-8").splitlines())) > 400}
    folders = [path.parent for path in SOURCES if path.name != "__init__.py"]
    assert not {name_of(folder): n for folder in set(folders) if (n := folders.count(folder)) > 15}


def test_imports_within_the_repository_are_relative():
    own = {"tessera", "core", "training", "benchmarks"}
    for path in SOURCES:
        absolute = {parts[0] for level, parts in imports_of(path) if level == 0}
        assert not absolute & own, name_of(path)


def test_only_nodes_import_the_host():
    for path in SOURCES:
        absolute = {parts[0] for level, parts in imports_of(path) if level == 0}
        assert not absolute & HOST or name_of(path).startswith("nodes/host/"), name_of(path)


def test_no_file_is_a_drawer():
    drawers = {"util", "utils", "misc", "helper", "helpers", "common"}
    assert not [name_of(path) for path in [*SOURCES, *(ROOT / "tests").rglob("*.py")] if path.stem in drawers]


def test_core_never_prints():
    for path in (ROOT / "core").rglob("*.py"):
        assert "print" not in {name for name, _ in calls_of(path)}, name_of(path)


def test_core_says_nothing_of_a_graph():
    graph = re.compile(r"\b(connect|nodes?|wires?|sockets?|workflows?)\b", re.IGNORECASE)
    for path in (ROOT / "core").rglob("*.py"):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Raise):
                texts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
                assert not [text for text in texts if isinstance(text, str) and graph.search(text)], name_of(path)


def test_no_source_calls_eval_exec_or_pickle_load():
    for path in SOURCES:
        names = {name for name, _ in calls_of(path)}
        assert not names & {"eval", "exec", "pickle.load", "pickle.loads"}, name_of(path)


def test_torch_loads_weights_only():
    for path in SOURCES:
        for name, call in calls_of(path):
            safe = any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in call.keywords)
            assert name != "torch.load" or safe, f"{name_of(path)}:{call.lineno}"


def test_root_package_imports_nothing_at_module_level():
    assert not [node for node in tree_of(ROOT / "__init__.py").body if isinstance(node, ast.Import | ast.ImportFrom)]


def test_test_files_have_unique_names():
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)
