"""What the documents say about the code is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def defined(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}


@pytest.mark.parametrize("name", ["docs/paper.md", "CONTRIBUTING.md"])
def test_every_symbol_that_is_named_exists(name):
    named = re.findall(r"`([\w/]+\.py):(\w+)`", (ROOT / name).read_text(encoding="utf-8"))
    assert named
    assert not [f"{file}:{symbol}" for file, symbol in named if symbol not in defined(ROOT / file)]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/training.md"])
def test_every_file_of_the_code_that_is_named_exists(name):
    named = re.findall(
        r"`((?:core|nodes|training|tests|downloads|web)/[\w/.]+)`", (ROOT / name).read_text(encoding="utf-8")
    )
    assert not [file for file in named if not (ROOT / file).exists()]
