"""What guides a prior, and where training finds it: the `condition` section of a run."""

from dataclasses import dataclass
from typing import Literal

from .checks import check_numbers, expand_paths

SourceKind = Literal[
    "none", "edges", "low-resolution", "class", "coordinates", "depth", "segmentation", "layout", "words"
]
ENCODED = ("edges", "depth", "segmentation")  # by a VQGAN of their own
PICTURES = (*ENCODED, "low-resolution")
NEEDS = {  # settings that a kind can't do without
    "depth": ("folder", "of depth maps, each named as its picture is"),
    "segmentation": ("folder", "of label maps, each named as its picture is"),
    "layout": ("table", "a JSON file of boxes as COCO has them"),
    "words": ("table", "a CSV file with the columns file and caption"),
}
TAKES = {  # settings that only some kinds have
    "folder": ("depth", "segmentation"),
    "table": ("class", "layout", "words"),
    "palette": ("segmentation",),
    "labels": ("segmentation", "coordinates"),
}


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """What guides the prior (section 3.2). ValueError for settings that don't belong to the kind."""

    kind: SourceKind = "none"
    folder: str = ""  # depth, segmentation: a map for each picture, under the same name and of the same size
    table: str = ""  # class: CSV with file and class, empty for the names of the folders; words: file and caption;
    # layout: boxes in COCO's JSON
    palette: tuple[str, ...] = ()  # segmentation: the color of each label; empty where gray levels are the labels
    labels: int = 0  # segmentation: how many there are, without a palette; coordinates: steps, 0 is 1024
    vqgan: str = ""  # file of the VQGAN that encodes it; for low-resolution, empty is the picture's own
    factor: int = 4  # low-resolution: how many times as large a side becomes
    dropout: float = 0.0  # share of a step's images that are learned without it; guidance needs some, such as 0.1

    @property
    def channels(self) -> int:
        """Of the condition images that a VQGAN encodes; 0 where none does."""
        return {"edges": 1, "depth": 1, "low-resolution": 3, "segmentation": len(self.palette) or self.labels}.get(
            self.kind, 0
        )

    def __post_init__(self):
        expand_paths(self, "condition.", "folder", "table", "vqgan")
        check_numbers(self, "condition.", ("labels",), 0)
        check_numbers(self, "condition.", ("factor",), 1)
        if self.kind in NEEDS and not getattr(self, NEEDS[self.kind][0]):
            raise ValueError(f"condition.{NEEDS[self.kind][0]} is empty; {self.kind} needs {NEEDS[self.kind][1]}")
        for name, kinds in TAKES.items():
            if getattr(self, name) and self.kind not in kinds:
                raise ValueError(f"condition.{name} is given, condition.kind is {self.kind}; it is for {kinds}")
        if self.vqgan and self.kind not in PICTURES:
            raise ValueError(f"condition.vqgan is given, condition.kind is {self.kind}, which no VQGAN encodes")
        if self.kind == "segmentation" and (len(self.palette) or self.labels) < 2:
            raise ValueError("condition.labels is missing; say how many labels the maps have, or give their palette")
        if self.palette and self.labels not in (0, len(self.palette)):
            raise ValueError(f"condition.labels is {self.labels}, the palette has {len(self.palette)} colors")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"condition.dropout is {self.dropout}; choose a share from 0 to below 1, such as 0.2")
        if self.dropout and self.kind in ("none", "coordinates"):
            raise ValueError(f"condition.dropout is {self.dropout}; {self.kind} is nothing that could be left out")
