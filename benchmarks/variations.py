"""Eight pictures of one condition, against one picture."""

from .report import Report
from .sampling import time_sampling
from .shapes import QUICK_SHAPES, SHAPES, random_prior
from .timing import alternate

PICTURES = 8
ABOUT = """\
Eight pictures of one condition in one run of the sampling loop, against one picture in the same loop. The condition
is read once and its keys and values are kept once; the weights are read once a step for all eight. One after the
other, eight pictures would take 8.00 times as long as one."""


def measure(quick: bool) -> Report:
    """Ratios for each shape of prior."""
    ratios, seconds = {}, {}
    for shape, config in (QUICK_SHAPES if quick else SHAPES).items():
        prior = random_prior(config)
        candidates = {
            f"{shape}: {pictures} at once": lambda prior=prior, pictures=pictures: time_sampling(prior, pictures).total
            for pictures in (1, PICTURES)
        }
        times = alternate(candidates, 1 if quick else 2)
        one, eight = times.values()
        ratios[f"{shape}: time of eight / time of one"] = eight / one
        seconds |= times
    return Report("variations", ABOUT, ratios, seconds)
