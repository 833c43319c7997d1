"""Sampling while other programs keep the processor busy, against sampling alone."""

from __future__ import annotations

import multiprocessing
import time
from contextlib import contextmanager

from ..core.priors import threads
from ..core.sampling.windows import Sliding
from .coupling import embedded_conditions
from .embedded import last_row_unknown, paint
from .report import Report

SPINNERS = 4
ABOUT = """\
One picture of the embedded model, 256 cells, alone and beside four processes that do nothing but count. With all
threads, each of a token's many small operations waits for the slowest of them; a small model therefore decodes with
one thread while others want the processor. *All threads* is the same loop without that."""


def spin() -> None:
    """Keep a processor busy."""
    while True:
        pass


@contextmanager
def others(number: int):
    """So many processes that spin."""
    processes = [multiprocessing.get_context("spawn").Process(target=spin, daemon=True) for _ in range(number)]
    for process in processes:
        process.start()
    time.sleep(3 if number else 0)  # until they do
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def measure(quick: bool) -> Report:
    """Ratios of busy to quiet, and of the two choices of threads."""
    bundle, conditions = embedded_conditions()
    canvas, times, small = bundle.empty_canvas(1), {}, threads.SMALL
    if quick:
        canvas = last_row_unknown(canvas)
    ways = {"as chosen": small, "all threads": 0}
    try:
        for situation, number in (("quiet", 0), ("busy", 1 if quick else SPINNERS)):
            with others(number):
                for name, limit in ways.items():
                    threads.SMALL = limit
                    start = time.perf_counter()
                    paint(bundle.prior, conditions[0], canvas, 0, 0, Sliding())
                    times[f"{name}, {situation}"] = time.perf_counter() - start
    finally:
        threads.SMALL = small
    ratios = {
        f"{name}, busy / quiet": times[f"{name}, busy"] / times[f"{name}, quiet"]
        for name in ("as chosen", "all threads")
    }
    ratios["quiet, all threads / as chosen"] = times["all threads, quiet"] / times["as chosen, quiet"]
    return Report("busy", ABOUT, ratios, times)
