"""docs/experiments.md, from the results that are kept beside it."""

from __future__ import annotations

import json
from pathlib import Path

from . import blocks, completions, control, first_stages, orders, priors
from .result import as_markdown, paper_section

EXPERIMENTS = {
    "priors": priors,
    "first-stages": first_stages,
    "completions": completions,
    "orders": orders,
    "control": control,
    "blocks": blocks,
}
HEAD = """# Experiments

The paper compares systems; `python -m tessera experiment NAME FOLDER` runs these comparisons at a size of choice, on a
folder of pictures. What follows is generated from the JSON files in `docs/experiments` that it wrote, and claims no
more than they hold: drawings in place of photographs, thousands in place of millions, minutes in place of weeks. A
claim is decided where the 95 % interval of a paired bootstrap over held-out drawings leaves out zero.

What is kept here is of `--size small`: minutes of a processor for each row, which end long before anything has
converged. What it decides is decided of small models that have only begun to learn, on emoji. `--size paper` names the
paper's sizes, for whoever has its pictures and accelerators. Priors learned the codes of small first stages of pictures
and edges (`emoji-vqgan.yaml`, `emoji-edges.yaml`), bundled by `emoji-prior.yaml`'s run; any such bundle is `--vqgan`.
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
            for picture, what in ((f"{name}.png", "What it costs"), (f"{name}.jpg", "Held-out pictures, then systems")):
                if (results / picture).is_file():
                    section += f"\n![{what}](experiments/{picture})\n"
            sections.append(section)
    path.write_text("\n".join(sections), encoding="utf-8")
