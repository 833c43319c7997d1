"""A window of 16x16 cells sliding over larger canvases, against the loop as the paper describes it."""

import time
from collections import defaultdict

import torch

from ..core.canvas.canvas import Canvas
from ..core.conditions.spatial import SpatialCondition
from ..core.geometry import Window
from ..core.priors.transformer import Transformer, TransformerConfig
from ..core.sampling.loop import SamplingRun, sample
from ..core.sampling.schedule import Group, Segment, make_groups, schedule
from ..core.sampling.settings import SamplingSettings
from ..core.sampling.state import SamplingState
from ..core.sampling.windows import Sliding
from .report import Report
from .shapes import QUICK_SHAPES, SHAPES, random_prior
from .timing import alternate, in_new_process, peak_memory_of, seconds_of

ABOUT = """\
A canvas of 36x64 cells (576x1024 pixels at stride 16) with a condition picture, one picture, 1024 codes. The *plain
loop* is section 3.2 word for word: for every cell a forward pass over the 511 tokens of its window. *Exact* gives the
same codes; with *stride* 4 or 8 the window moves by so many cells along a row. Wherever a window serves more than one
cell, with a stride and at the left and right borders, these are guessed and verified several at a time, which random
weights reward otherwise than learned ones; with *exact* away from the borders it is one cell a window. Whole runs
take too long to time: of the plain loop, three cells are timed; of ours, the schedule is made in full, its batches
are sorted by what they do (windows read anew or remembered, cells per window, rows together), of each kind up to
two, spread over the canvas, are run by the sampling loop's own code, and the mean of each kind is counted as often
as it occurs. The cost of a cell on larger canvases is found likewise; near borders the window stands still, so that
it rises from small canvases to the cost of a cell in the middle and no further. Memory is that of new processes which
fill two rows at the top, where windows are remembered for the row below, beyond what the model takes."""

SETTINGS = SamplingSettings(top_k=100)
STRIDES = {"exact": 1, "stride 4": 4, "stride 8": 8}  # of a window of 16


def condition_for(config: TransformerConfig, height: int, width: int) -> SpatialCondition:
    """A random condition picture."""
    return SpatialCondition(torch.randint(config.vocab_size, (1, height, width)), (height, width))


@torch.inference_mode()
def time_plain(prior: Transformer, cells: int) -> float:
    """The loop without any saving, timed on three cells."""
    config = prior.config
    prefix = torch.randint(config.vocab_size, (1, config.prefix_length))
    codes = torch.randint(config.codebook_size, (1, config.window**2))
    place = config.window**2 // 2

    def cell() -> None:
        logits = prior(prefix, codes)[:, place]
        kept = logits.topk(min(100, config.codebook_size))
        kept.indices.gather(1, kept.values.softmax(-1).multinomial(1))

    return seconds_of(lambda: [cell() for _ in range(3)]) / 3 * cells


@torch.inference_mode()
def time_sliding(prior: Transformer, height: int, width: int, sliding: Sliding, samples: int = 2) -> float:
    """A whole run of the sampling loop, from samples of each kind of batch."""
    start = time.perf_counter()
    condition = condition_for(prior.config, height, width)
    state = SamplingState.start(Canvas.empty(1, height, width), seed=0)
    groups = make_groups(schedule(prior, condition, state, sliding), width, width)
    run = SamplingRun(prior, condition, state, SETTINGS)
    total = time.perf_counter() - start
    kinds: dict[tuple, list[Group]] = defaultdict(list)
    before: dict[Window, Segment] = {}  # the last user of a window
    earlier: dict[tuple[int, int], Segment] = {}  # first cell of a segment that resumes -> the one it goes on from
    for group in groups:
        first = group.segments[0]
        kinds[first.resumes, len(first.visits), len(group.segments)].append(group)
        if first.resumes:
            earlier[first.visits[0][:2]] = before[first.window]
        before |= {segment.window: segment for segment in group.segments}
    for alike in kinds.values():
        chosen = [alike[int((i + 0.5) * len(alike) / samples)] for i in range(min(samples, len(alike)))]
        seconds = 0.0
        for group in chosen:
            if group.segments[0].resumes:  # its window has to be in memory
                remember(run, earlier[group.segments[0].visits[0][:2]])
            seconds += seconds_of(lambda group=group: list(run.draw(group)))
            run.evaluator.cached.clear()
        total += seconds / len(chosen) * len(alike)
    return total


def remember(run: SamplingRun, segment: Segment) -> None:
    """Put a window into memory as if the segment had just been drawn."""
    fresh = [Segment(segment.visits[-1:], kept=True)]
    windows = run.evaluator.open(fresh)
    windows.evaluate(fresh[0].places[0], 1)
    run.evaluator.close(fresh, windows)


def memory_of(config: TransformerConfig, side: int) -> int:
    """Peak bytes of filling two rows at the top of a square canvas, two windows wide."""
    prior = random_prior(config)
    mask = torch.zeros(side, side, dtype=torch.bool)
    mask[:2, : 2 * config.window] = True
    canvas = Canvas.filled(torch.zeros(1, side, side, dtype=torch.int64)).forget(mask)
    condition = condition_for(config, side, side)
    return max(1, peak_memory_of(lambda: sample(prior, condition, canvas, 0, SETTINGS)))


def measure(quick: bool) -> Report:
    """Ratios for each shape of prior."""
    height, width, sides = (9, 16, (8, 16)) if quick else (36, 64, (32, 128))
    ratios, seconds = {}, {}
    for shape, config in (QUICK_SHAPES if quick else SHAPES).items():
        prior = random_prior(config)
        candidates = {
            "plain loop": lambda prior=prior: time_plain(prior, height * width),
            **{
                name: lambda prior=prior, stride=stride: time_sliding(prior, height, width, Sliding(stride=stride))
                for name, stride in ((name, max(1, s * config.window // 16)) for name, s in STRIDES.items())
            },
        }
        times = alternate(candidates, 1)
        ratios |= {f"{shape}: plain loop / {name}": times["plain loop"] / times[name] for name in STRIDES}
        seconds |= {f"{shape}: {name}": value for name, value in times.items()}
    shape, config = next(iter((QUICK_SHAPES if quick else SHAPES).items()))
    prior, memory = random_prior(config), {}
    plain = time_plain(prior, 1)
    for side in sides:
        name = f"{shape}: {side}x{side} cells"
        seconds[f"{name}, exact, a cell"] = time_sliding(prior, side, side, Sliding()) / side**2
        ratios[f"{name}, plain loop / exact"] = plain / seconds[f"{name}, exact, a cell"]
        memory[name] = in_new_process(memory_of, config, side)
    small, large = memory.values()
    ratios[f"{shape}: memory, {sides[1]}x{sides[1]} / {sides[0]}x{sides[0]} cells"] = large / small
    return Report("window", ABOUT, ratios, seconds, memory)
