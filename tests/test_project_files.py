"""pyproject.toml, requirements.txt, README and the tree agree with each other."""

import re
from pathlib import Path

import pytest

tomllib = pytest.importorskip("tomllib", reason="part of Python since 3.11")

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The README's text below a second-level heading."""
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_requirements_are_the_projects_dependencies():
    listed = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    assert listed == PROJECT["project"]["dependencies"]


def test_readme_gives_a_reason_for_each_dependency():
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = {*PROJECT["project"]["dependencies"], *extras["training"], *extras["test"]}
    assert set(re.findall(r"^\| `([\w-]+)` \|", section("Dependencies"), re.MULTILINE)) == wanted


def test_no_dependency_is_pinned():
    for requirement in PROJECT["project"]["dependencies"]:
        assert re.fullmatch(r"[\w-]+", requirement)


def test_every_package_of_the_tree_is_installed():
    layers = ("core", "downloads", "nodes", "training", "benchmarks")
    folders = [path.parent for layer in layers for path in (ROOT / layer).rglob("__init__.py")]
    names = {".".join(("tessera", *folder.relative_to(ROOT).parts)) for folder in folders}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == {"tessera", *names}


def test_relative_links_of_the_documents_lead_somewhere():
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "assets").glob("*.md")]:
        links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", document.read_text(encoding="utf-8"))
        missing = [link for link in links if not (document.parent / link).exists()]
        assert not missing, f"{document.relative_to(ROOT)}: {missing}"
