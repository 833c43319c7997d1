"""The header of a safetensors file."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError


def check_header(path: Path) -> None:
    """Refuse a safetensors file whose header is longer than any model's, before it is read.

    Raises:
        SafetensorError: so that it is reported like what the library itself finds.
    """
    with path.open("rb") as file:
        start = file.read(8)
    if len(start) == 8 and (length := int.from_bytes(start, "little")) > MAX_STRUCTURE_BYTES:
        raise SafetensorError(f"its header claims {length} bytes")


MAX_STRUCTURE_BYTES = 16 * 2**20  # bytes of a file's structure without its numbers; released ones have 1 or 2 million
