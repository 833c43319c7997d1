"""docs/experiments.md, from the results that are kept beside it."""

from __future__ import annotations

import json
from pathlib import Path

from . import completions, first_stages, orders, priors
from .result import as_markdown

EXPERIMENTS = {"priors": priors, "first-stages": first_stages, "completions": completions, "orders": orders}
HEAD = """# Experiments

The paper compares systems; `python -m tessera experiment NAME FOLDER` runs these comparisons at a size of choice, on a
folder of pictures. What follows is generated from the JSON files in `docs/experiments` that it wrote, and claims no
more than they hold: drawings in place of photographs, thousands in place of millions, minutes in place of weeks. A
claim is decided where the 95 % interval of a paired bootstrap over held-out drawings leaves out zero.
"""


def write_document(results: Path, path: Path) -> None:
    """Put all results of a folder into one document."""
    sections = [HEAD]
    for name, experiment in EXPERIMENTS.items():
        if (file := results / f"{name}.json").is_file():
            tree = json.loads(file.read_text(encoding="utf-8"))
            section = as_markdown(tree, experiment.PUBLISHED)
            if (results / f"{name}.jpg").is_file():
                section += f"\n![Held-out pictures, and what becomes of them](experiments/{name}.jpg)\n"
            sections.append(section)
    path.write_text("\n".join(sections), encoding="utf-8")
