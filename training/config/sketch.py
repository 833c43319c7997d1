"""`train sketch`: everything one run needs."""

from dataclasses import dataclass, field

from .paths import expand_home
from .runs import LoopConfig
from .scenes import SceneConfig, check_shares


@dataclass(frozen=True, kw_only=True)
class DrawingsConfig:
    """Which drawings: a folder with a table of names; see `data.drawings`."""

    folder: str
    size: int = 256  # pixels per side of a scene

    def __post_init__(self):
        expand_home(self, "folder")
        if self.size < 16:
            raise ValueError(f"data.size is {self.size}; scenes of at least 16 pixels are needed")


@dataclass(frozen=True, kw_only=True)
class SketchModelConfig:
    """The prior's free sizes; the rest follows from the VQGAN and the vocabulary."""

    layers: int = 8
    width: int = 384
    heads: int = 6
    hidden: int = 1024


@dataclass(frozen=True, kw_only=True)
class GivenConfig:
    """Shares of the scenes learned with each of what guides, 0 to 1; `nothing`: with neither style nor words."""

    style: float = 0.85
    words: float = 0.85
    colors: float = 0.45
    lines: float = 0.5
    nothing: float = 0.1

    def __post_init__(self):
        check_shares(self, "given")


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
    given: GivenConfig = field(default_factory=GivenConfig)
    scenes: SceneConfig = field(default_factory=SceneConfig)
    model: SketchModelConfig = field(default_factory=SketchModelConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self):
        expand_home(self, "output", "vqgan")
        for name in ("least", "validation"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 < self.pkeep <= 1:
            raise ValueError(f"pkeep is {self.pkeep}; choose a share above 0 and up to 1, such as 0.94")
