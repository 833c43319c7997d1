"""docs/experiments.md, from the results that are kept beside it."""

from __future__ import annotations

import json
from pathlib import Path

from . import completions, first_stages, orders, priors
from .result import as_markdown, paper_section

EXPERIMENTS = {"priors": priors, "first-stages": first_stages, "completions": completions, "orders": orders}
HEAD = """# Experiments

The paper compares systems; `python -m tessera experiment NAME FOLDER` runs these comparisons at a size of choice, on a
folder of pictures. What follows is generated from the JSON files in `docs/experiments` that it wrote, and claims no
more than they hold: drawings in place of photographs, thousands in place of millions, minutes in place of weeks. A
claim is decided where the 95 % interval of a paired bootstrap over held-out drawings leaves out zero.

Runs of `--size quick` end long before anything has converged: what they decide is decided of models that have hardly
begun to learn, and of one seed. What is kept here of that size was chosen after the runs, from those that had ended:
its intervals explore, and confirm nothing. `--size small` is meant for some hours of a processor, `--size paper` names
the paper's sizes.
"""


def write_document(results: Path, path: Path) -> None:
    """Put all results of a folder into one document."""
    sections = [HEAD]
    for name, experiment in EXPERIMENTS.items():
        file = results / f"{name}.json"
        if not file.is_file():
            sections.append(paper_section(experiment.PUBLISHED) + "\n\nNo result of ours is kept yet.\n")
        else:
            tree = json.loads(file.read_text(encoding="utf-8"))
            section = as_markdown(tree, experiment.PUBLISHED)
            if (results / f"{name}.jpg").is_file():
                section += f"\n![Held-out pictures, then a row for each system](experiments/{name}.jpg)\n"
            sections.append(section)
    path.write_text("\n".join(sections), encoding="utf-8")
