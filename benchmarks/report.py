"""What a benchmark found, for people and for programs."""

import json
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch


@dataclass(frozen=True)
class Report:
    """Results of one benchmark. Ratios say what they divide by; seconds and bytes are what was measured."""

    name: str
    about: str  # what is compared with what, and how
    ratios: dict[str, float]
    seconds: dict[str, float]
    bytes: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> str:
        """One JSON object in one line."""
        return json.dumps({**asdict(self), "machine": machine()})

    def as_markdown(self) -> str:
        """A section with its tables."""
        ratios = table("ratio", "", {name: f"{value:.2f}" for name, value in self.ratios.items()})
        measured = {name: readable_seconds(value) for name, value in self.seconds.items()}
        measured |= {name: f"{value / 2**20:.0f} MB" for name, value in self.bytes.items()}
        return "\n\n".join([f"## {self.name}", self.about, ratios, table("measured", "", measured)])


def table(left: str, right: str, rows: dict[str, str]) -> str:
    """A markdown table of two columns, the cells padded so that it reads well as plain text too."""
    name_width, value_width = (max(map(len, column)) for column in zip((left, right), *rows.items(), strict=True))
    lines = [f"| {name:<{name_width}} | {value:>{value_width}} |" for name, value in rows.items()]
    head = f"| {left:<{name_width}} | {right:>{value_width}} |"
    return "\n".join([head, f"| {'-' * name_width} | {'-' * (value_width - 1)}: |", *lines])


def readable_seconds(seconds: float) -> str:
    """In seconds or milliseconds, three digits."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def machine() -> dict[str, str | int]:
    """Where the figures come from."""
    return {"cpu": processor(), "threads": torch.get_num_threads(), "torch": torch.__version__}


def processor() -> str:
    """The processor's model name."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
