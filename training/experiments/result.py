"""What an experiment finds, and the paper's figures beside it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.storage.atomic import atomic_write
from .intervals import Interval


@dataclass(frozen=True)
class Claim:
    """A claim of the paper and what was measured of it: below 0 by the whole interval is for it, above against."""

    words: str
    measured: str  # of what the interval is
    interval: Interval

    @property
    def verdict(self) -> str:
        """One sentence."""
        mean, low, high = self.interval
        found = f"{self.measured}: {mean:+.3f} (95 % interval {low:+.3f} to {high:+.3f})"
        if low <= 0 <= high:
            return f"Not decided at this size. {found}."
        return f"{'Holds' if high < 0 else 'Does not hold'} at this size. {found}."


@dataclass(frozen=True)
class Result:
    """One experiment at one size.

    rows: figures of each system, by name. setting: what was really trained, in words. claims: see `Claim`.
    """

    name: str
    setting: str
    rows: list[dict[str, Any]]
    claims: list[Claim]

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        tree = dataclasses.asdict(self) | {"verdicts": [claim.verdict for claim in self.claims]}
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            Path(partial).write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Published:
    """The paper's table."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str


def as_table(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def shown(value: Any) -> str:
    """A figure as it is printed."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def as_markdown(tree: dict[str, Any], published: Published) -> str:
    """A section of docs/experiments.md from a saved result."""
    columns = list(dict.fromkeys(name for row in tree["rows"] for name in row))
    ours = as_table(columns, [[shown(row.get(name, "")) for name in columns] for row in tree["rows"]])
    claims = [f"- {c['words']} {said}" for c, said in zip(tree["claims"], tree["verdicts"], strict=True)]
    return "\n\n".join([paper_section(published), f"Here: {tree['setting']}", ours, "\n".join(claims)]) + "\n"


def paper_section(published: Published) -> str:
    """The heading and the paper's table."""
    table = as_table(list(published.columns), [list(row) for row in published.rows])
    return "\n\n".join([f"## {published.title}", "The paper:", table, published.note])
