"""Edges of a picture to new pictures, with the embedded model: a contact sheet and the single pictures.

Each input gives a row for each temperature. Pictures in a row differ by seed; below one another they share it,
so a column shows what temperature alone does.
"""

import argparse
import itertools
import sys
from pathlib import Path

from .arguments import file_path

ROOT = Path(__file__).parent.parent.parent
BUNDLE = ROOT / "models" / "emoji-edges.safetensors"
PHOTOGRAPH, DRAWING = ROOT / "assets" / "photograph.jpg", ROOT / "assets" / "drawing.png"
TEMPERATURES = [0.5, 0.8, 1.0]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--picture", type=file_path, nargs="*", default=[PHOTOGRAPH], help="pictures to take the edges of"
    )
    parser.add_argument("--drawing", type=file_path, nargs="*", default=[DRAWING], help="line drawings, dark on light")
    parser.add_argument("--bundle", type=file_path, default=BUNDLE, help="model file (default: the embedded one)")
    parser.add_argument("--output", type=file_path, default=Path("out/demo"), help="folder for the pictures")
    parser.add_argument("--samples", type=int, default=4, help="pictures for each input and temperature (default 4)")
    parser.add_argument(
        "--temperature", type=float, nargs="+", default=TEMPERATURES, metavar="T",
        help="boldness, 0 to 100; 1 is the model as trained (default 0.5 0.8 1.0)",
    )  # fmt: skip
    parser.add_argument(
        "--guidance", type=float, help="how strongly the edges pull: 1 is off, 2 doubles (default: 2 if the model can)"
    )
    parser.add_argument("--top-k", type=int, default=0, help="draw among the k most likely codes; 0 is off")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same pictures (default 0)")


def run(args: argparse.Namespace) -> int:
    """Sample and write all pictures; 0 when done."""
    import torch
    from PIL import Image
    from tqdm import tqdm

    from ...core.conditions.edges import canny, centerlines
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
    if (kind := bundle.condition_config.kind) != "edges":
        raise ValueError(f"{args.bundle.name} is guided by {kind}; the demo only has edges, choose another --bundle")
    guidance = (2.0 if bundle.condition_config.unconditional else 1.0) if args.guidance is None else args.guidance
    settings = [SamplingSettings(temperature=t, top_k=args.top_k, guidance_scale=guidance) for t in args.temperature]
    side = bundle.prior.config.window * bundle.vqgan.config.stride
    cells = bundle.prior.config.window**2 * len(inputs) * len(settings)
    rows: list[tuple[str, list[Image.Image]]] = []
    with tqdm(total=cells, unit="cell", file=sys.stdout, disable=None) as bar:
        for name, picture, drawn in inputs:
            square = fit_square(picture, side)
            lines = centerlines(square) if drawn else canny(square)
            condition = bundle.condition(lines)
            guides = to_pil(torch.cat([square, lines.expand(-1, 3, -1, -1)]))
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


def named(pictures: list[Path], drawings: list[Path]) -> list[tuple[str, Path, bool]]:
    """A name for each input, its path, and whether it is a drawing. No two names are equal: each is the file's own,
    with a number where another input has it already."""
    inputs: dict[str, tuple[str, Path, bool]] = {}
    for path, drawn in [*((path, False) for path in pictures), *((path, True) for path in drawings)]:
        candidates = itertools.chain([path.stem], (f"{path.stem}-{number}" for number in itertools.count(2)))
        name = next(name for name in candidates if name.casefold() not in inputs)
        inputs[name.casefold()] = name, path, drawn
    return list(inputs.values())
