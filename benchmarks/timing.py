"""How long a piece of work takes and how much memory it needs, on a machine that does other things too."""

import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def seconds_of(work: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def alternate(candidates: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Median of what each candidate returns, the candidates taking turns so that they share good and bad moments."""
    results = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, candidate in candidates.items():
            results[name].append(candidate())
    return {name: statistics.median(values) for name, values in results.items()}


def in_new_process(function: Callable, *args: Any) -> Any:
    """`function(*args)` in a process that has done nothing else; all of it must be picklable."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


def peak_memory_of(work: Callable[[], Any]) -> int:
    """Bytes by which this process's memory grew at most during one call. Linux only, 0 elsewhere."""
    if not Path("/proc/self/clear_refs").exists():
        work()
        return 0
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = process_memory("VmRSS")
    work()
    return process_memory("VmHWM") - before


def process_memory(field: str) -> int:
    """A memory field of /proc/self/status, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024
