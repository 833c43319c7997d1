"""`train sketch`: everything one run needs."""

from dataclasses import dataclass, field

from .checks import check_numbers, check_shares, expand_paths
from .data import MAX_SIZE
from .runs import LoopConfig, Optimizer, check_optimizer
from .scenes import SceneConfig


@dataclass(frozen=True, kw_only=True)
class DrawingsConfig:
    """Which drawings: a folder with a table of names; see `data.drawings`."""

    folder: str
    size: int = 256  # pixels per side of a scene

    def __post_init__(self):
        expand_paths(self, "data.", "folder")
        check_numbers(self, "data.", ("size",), 16, MAX_SIZE)


@dataclass(frozen=True, kw_only=True)
class SketchModelConfig:
    """The prior's free sizes; the rest follows from the VQGAN and the vocabulary."""

    layers: int = 8
    width: int = 384
    heads: int = 6
    hidden: int = 1024

    def __post_init__(self):
        check_numbers(self, "model.", ("layers", "width", "heads", "hidden"), 1)


@dataclass(frozen=True, kw_only=True)
class GivenConfig:
    """Shares of the scenes learned with each of what guides, 0 to 1; `nothing`: with neither style nor words."""

    style: float = 0.85
    words: float = 0.8
    colors: float = 0.55
    lines: float = 0.55
    nothing: float = 0.08

    def __post_init__(self):
        check_shares(self, "given.")


@dataclass(frozen=True, kw_only=True)
class SketchRun:
    """A prior guided by style, words, colors and lines."""

    output: str
    data: DrawingsConfig
    vqgan: str  # file of the first stage
    least: int = 6  # drawings that must have a word for it to be learned
    validation: int = 256  # held-out drawings that are looked at
    pkeep: float = 0.94  # share of input codes left as they are; the others are replaced at random
    weight_decay: float = 0.1
    optimizer: Optimizer = "adamw"
    given: GivenConfig = field(default_factory=GivenConfig)
    scenes: SceneConfig = field(default_factory=SceneConfig)
    model: SketchModelConfig = field(default_factory=SketchModelConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self):
        expand_paths(self, "", "output", "vqgan")
        check_numbers(self, "", ("least", "validation"), 1)
        check_numbers(self, "", ("weight_decay",), 0)
        check_optimizer(self.optimizer, self.loop)
        if not 0 < self.pkeep <= 1:
            raise ValueError(f"pkeep is {self.pkeep}; choose a share above 0 and up to 1, such as 0.94")
