"""Say what a model file holds: kind, configuration, codes, parameters, hash, license and what else is in it."""

import argparse
import dataclasses
import sys
from typing import Any

from .arguments import file_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", type=file_path, metavar="FILE", help="model file, checkpoint, or folder of diffusers")
    parser.add_argument(
        "--config", type=file_path, metavar="YAML", help="the YAML that came with it, if it doesn't lie beside it"
    )


def run(args: argparse.Namespace) -> int:
    """Print what the file holds; 0 when done."""
    from tqdm import tqdm

    from ...core.checkpoints.diffusers import diffusers_weights, weight_files
    from ...core.inspection import inspect_model
    from ...downloads.catalogue import license_of
    from ...downloads.download import hash_of

    contents = inspect_model(args.file, args.config)
    weights = diffusers_weights(args.file)
    files = weight_files(weights)
    size = sum(path.stat().st_size for path in files)
    with tqdm(total=size, unit="B", unit_scale=True, desc="hash", file=sys.stderr, disable=None, leave=False) as bar:
        hashes, before = [], 0
        for path in files:
            hashes.append(hash_of(path, lambda done, total, before=before: bar.update(before + done - bar.n)))
            before += path.stat().st_size
    rows: dict[str, Any] = {
        "file": f"{weights} ({size / 1e6:.1f} MB)",
        "sha256": ", ".join(hashes),
        "kind": contents.kind,
        "layout": contents.origin,
        "licence": contents.license or license_of(hashes[0]) or "not known",
        "trained on": contents.trained_on or "not said",
    }
    for part, config in contents.configs.items():
        rows[part] = f"{contents.parameters[part] / 1e6:.2f} million parameters"
        if "codebook" in vars(config):
            codes = f"{config.codebook_size} codes of {config.code_dim} numbers"
            rows[part] += f", {codes}, {config.stride} pixels a cell"
        rows[f"{part} config"] = in_words(config)
    if contents.condition:
        rows["condition"] = in_words(contents.condition)
    rows["besides"] = ", ".join(contents.other_entries) or "nothing"
    for name, value in rows.items():
        print(f"{name:>22}  {printable(value)}")
    return 0


def in_words(config: Any) -> str:
    """A dataclass in one line."""
    return ", ".join(f"{name} {value}" for name, value in dataclasses.asdict(config).items())


def printable(text: str) -> str:
    """Without what could move a terminal's cursor: a file may say anything about itself."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
