"""Pictures anew from their lines and colors, with the embedded model: a contact sheet and the single pictures.

A line drawing has no colors; words say what it shows. Each input gives a row for each temperature. Pictures in a row
differ by seed; below one another they share it, so a column shows what temperature alone does.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import file_path
from .words import known_words

if TYPE_CHECKING:
    from torch import Tensor

    from ...core.conditions.sketch import Sketch

ROOT = Path(__file__).parent.parent.parent
BUNDLE = ROOT / "models" / "emoji-sketch.safetensors"
PHOTOGRAPH, DRAWING = ROOT / "assets" / "photograph.jpg", ROOT / "assets" / "drawing.png"
TEMPERATURES, GUIDANCE = [0.7, 0.85, 1.0], 4.0
SHOWN = "red strawberry"  # on the example drawing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--picture", type=file_path, nargs="*", default=[PHOTOGRAPH], help="pictures to take lines and colors of"
    )
    parser.add_argument("--drawing", type=file_path, nargs="*", default=[DRAWING], help="line drawings, dark on light")
    parser.add_argument("--words", help="what the drawings show (default for the example: red strawberry)")
    parser.add_argument("--bundle", type=file_path, default=BUNDLE, help="model file (default: the embedded one)")
    parser.add_argument("--output", type=file_path, default=Path("out/demo"), help="folder for the pictures")
    parser.add_argument("--samples", type=int, default=4, help="pictures for each input and temperature (default 4)")
    parser.add_argument(
        "--temperature", type=float, nargs="+", default=TEMPERATURES, metavar="T",
        help="boldness, 0 to 100; 1 is the model as trained (default 0.7 0.85 1.0)",
    )  # fmt: skip
    parser.add_argument(
        "--guidance", type=float, default=GUIDANCE,
        help="how strongly words, lines and colors pull: 1 is off (default 4)",
    )  # fmt: skip
    parser.add_argument("--top-k", type=int, default=0, help="draw among the k most likely codes; 0 is off")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same pictures (default 0)")


def run(args: argparse.Namespace) -> int:
    """Sample and write all pictures; 0 when done."""
    import torch
    from PIL import Image
    from tqdm import tqdm

    from ...core.conditions.sketch import show_sketch, sketch_inputs
    from ...core.images.io import open_image, to_pil, to_tensor
    from ...core.images.resize import fit_square
    from ...core.images.sheet import contact_sheet
    from ...core.loading import load
    from ...core.sampling.loop import sample_steps
    from ...core.sampling.settings import SamplingSettings
    from ...core.sampling.state import SamplingState
    from ..engine.plots import save_image

    if args.samples < 1:
        raise ValueError(f"--samples is {args.samples}; ask for at least 1")
    inputs = [(name, to_tensor(open_image(path)), drawn) for name, path, drawn in named(args.picture, args.drawing)]
    bundle = load(args.bundle)
    if (kind := bundle.condition_config.kind) not in ("sketch", "edges"):
        raise ValueError(f"{args.bundle.name} is guided by {kind}; the demo only has sketch and edges, choose another")
    example = args.drawing == [DRAWING] and bundle.vocabulary is not None
    words = known_words(bundle, (SHOWN if example else "") if args.words is None else args.words)
    settings = [
        SamplingSettings(temperature=t, top_k=args.top_k, guidance_scale=args.guidance) for t in args.temperature
    ]
    window = bundle.prior.window
    cells = window**2 * len(inputs) * len(settings)
    rows: list[tuple[str, list[Image.Image]]] = []
    with tqdm(total=cells, unit="cell", file=sys.stdout, disable=None) as bar:
        for name, picture, drawn in inputs:
            sketch = sketch_of(picture, drawn, bundle.image_size, words)
            condition = bundle.condition(sketch.lines * 2 - 1 if kind == "edges" else sketch)
            seen = show_sketch(*sketch_inputs(sketch, window, window))
            guides = to_pil(torch.cat([fit_square(picture, bundle.image_size), seen[:1]]))
            for setting in settings:
                state = SamplingState.start(bundle.empty_canvas(args.samples), args.seed)
                for _ in sample_steps(bundle.prior, condition, state, setting):
                    bar.update()
                made = to_pil(bundle.decode(state.canvas))
                rows.append((f"{name}, temperature {setting.temperature:g}", guides + made))
                for number, image in enumerate(made):
                    file = f"{name}-t{setting.temperature:g}-seed{args.seed + number}.png"
                    save_image(image, args.output / file)
    save_image(contact_sheet(rows), args.output / "contact-sheet.png")
    print(f"{len(rows) * args.samples} pictures and {args.output / 'contact-sheet.png'}")
    return 0


def sketch_of(picture: Tensor, drawn: bool, side: int, words: tuple[int, ...]) -> Sketch:
    """The lines of a picture [1, 3, H, W] on a square of `side` pixels, with the words of a drawing, or else the colors
    of a photograph."""
    from ...core.conditions.edges import extract_lines
    from ...core.conditions.sketch import Sketch
    from ...core.images.resize import fit_square

    square = fit_square(picture, side)
    lines = extract_lines(square, "drawing" if drawn else "photograph") / 2 + 0.5
    return Sketch(lines=lines, words=words) if drawn else Sketch(lines=lines, colors=square)


def named(pictures: list[Path], drawings: list[Path]) -> list[tuple[str, Path, bool]]:
    """A name for each input, its path, and whether it is a drawing. No two names are equal: each is the file's own,
    with a number where another input has it already."""
    inputs: dict[str, tuple[str, Path, bool]] = {}
    for path, drawn in [*((path, False) for path in pictures), *((path, True) for path in drawings)]:
        candidates = itertools.chain([path.stem], (f"{path.stem}-{number}" for number in itertools.count(2)))
        name = next(name for name in candidates if name.casefold() not in inputs)
        inputs[name.casefold()] = name, path, drawn
    return list(inputs.values())
