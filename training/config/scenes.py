"""How scenes of named drawings are painted; `data.scenes` paints them."""

from dataclasses import dataclass

from .checks import check_shares


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """How scenes are made; shares are of a batch, 0 to 1. ValueError for what is no share.

    whole: scenes of one whole drawing; the others show it larger, smaller or cut off.
    several: scenes with a second drawing behind the first.
    leaves: scenes on dead leaves, overlapping shapes of all sizes that stand in for photographs; three fifths of them
        show nothing else.
    bare: scenes of a ground alone, so that a first stage learns even color up to the corners; a prior that sees them
        paints them where nothing is asked of it.
    white: grounds that are white.
    hue: drawings whose hue is turned all the way round; the others keep theirs nearly.
    """

    whole: float = 0.65
    several: float = 0.15
    leaves: float = 0.03
    bare: float = 0.0
    white: float = 0.5
    hue: float = 0.06

    def __post_init__(self):
        check_shares(self, "scenes.")
