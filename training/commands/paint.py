"""Words to a picture: `python -m tessera paint "a strawberry with a crown"`, with the embedded models or others.

A text ending in .mp4 behind --output makes a film: scenes separated by ^, told one after the other.
"""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .words import known_words

if TYPE_CHECKING:
    from ...core.bundle import Bundle
    from ...core.clip.prompts import Prompt
    from ...core.conditions.sketch import Sketch

ROOT = Path(__file__).parent.parent.parent
VQGAN, CLIP = (ROOT / "models" / f"emoji-{name}.safetensors" for name in ("sketch", "clip"))
FRAMES_A_SECOND = 12
FREE = 16  # pictures to choose a beginning from


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "text", help='what to paint: "a cat | in the snow:0.5 | letters:-0.3"; scenes of a film: "a ^ b"'
    )
    parser.add_argument("--output", type=Path, default=Path("out/painting.png"), help="a picture, or a film (.mp4)")
    parser.add_argument(
        "--size", type=int, nargs="+", default=[256], metavar="PIXELS", help="side, or width and height"
    )
    parser.add_argument(
        "--steps", type=int, default=150, help="of the picture, or of a film's first frame (default 150)"
    )
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same picture (default 0)")
    parser.add_argument("--views", type=int, default=16, help="views that CLIP judges in each step (default 16)")
    parser.add_argument("--begin", type=Path, metavar="PICTURE", help="begin with a picture")
    parser.add_argument(
        "--free", type=int, metavar="N",
        help="begin with the one of N pictures of a model that fits the words best, told these if it knows words "
        "(default 16 with the embedded one); 0 for soft noise",
    )  # fmt: skip
    parser.add_argument(
        "--rate", type=float,
        help="how far a step goes, in the codebook's deviations (default 0.1 from soft noise, 0.05 from a picture)",
    )  # fmt: skip
    parser.add_argument(
        "--hold", type=float,
        help="how strongly it is held to where it began, 0.2 to 4 (default 0 from soft noise, 1 from a picture)",
    )  # fmt: skip
    parser.add_argument("--like", type=Path, metavar="PICTURE", help="come near to this picture, too")
    parser.add_argument("--vqgan", type=Path, default=VQGAN, help="a VQGAN or bundle (default: the embedded one)")
    parser.add_argument(
        "--clip", type=Path, nargs="+", default=[CLIP], help="one CLIP or several (default: the embedded)"
    )
    parser.add_argument("--judge", type=Path, metavar="CLIP", help="another CLIP, that scores the result")
    parser.add_argument("--frames", type=int, default=48, help="of a film (default 48)")
    parser.add_argument("--frame-steps", type=int, default=8, help="of each later frame of a film (default 8)")
    parser.add_argument("--zoom", type=float, default=1.03, help="of a film's camera in each frame (default 1.03)")
    parser.add_argument("--turn", type=float, default=0.0, help="degrees of a film's camera in each frame")


def run(args: argparse.Namespace) -> int:
    """Paint and write; 0 when done."""
    import torch
    from tqdm import tqdm

    from ...core.canvas.codec import decode_canvas
    from ...core.clip.clip_file import open_clip
    from ...core.clip.cutouts import CutoutSettings
    from ...core.clip.guidance import GuidanceSettings, guide_steps
    from ...core.clip.painting import (
        Camera,
        begin_painting,
        best_of_free,
        estimate_step,
        from_canvas,
        from_image,
        painted_canvas,
        story,
    )
    from ...core.clip.prompts import Prompt, parse_prompts
    from ...core.clip.scoring import score_texts
    from ...core.images.io import open_image, to_pil, to_tensor
    from ...core.loading import load, load_vqgan
    from ..engine.plots import save_image

    if len(args.size) > 2 or min(args.size) < 8:
        raise ValueError(f"--size is {args.size}; give one side or width and height, in pixels")
    scenes = [parse_prompts(scene) for scene in args.text.split("^")]
    film = args.output.suffix.lower() == ".mp4"
    if len(scenes) > 1 and not film:
        raise ValueError(f"{len(scenes)} scenes make a film; let --output end in .mp4, or leave out ^")
    if film and find_spec("av") is None:
        raise ValueError("a film is written by the package av, which is missing: pip install av, or paint a picture")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    free = FREE if args.free is None and args.vqgan == VQGAN and not args.begin else args.free or 0
    painter = load(args.vqgan) if free else None
    vqgan = (painter.vqgan if painter else load_vqgan(args.vqgan)).to(device)
    models = [open_clip(path) for path in args.clip]
    judge = open_clip(args.judge) if args.judge else None
    for model in [*models, *([judge] if judge else [])]:
        model.clip.to(device)
    if args.like:
        like = Prompt(image=(to_tensor(open_image(args.like)) + 1) / 2)
        scenes = [[*prompts, like] for prompts in scenes]
    rate, hold = (0.05, 1.0) if args.begin or painter else (0.1, 0.0)
    settings = GuidanceSettings(
        steps=args.steps, cutouts=CutoutSettings(count=args.views),
        learning_rate=rate if args.rate is None else args.rate, init_weight=hold if args.hold is None else args.hold,
    )  # fmt: skip
    width, height = (args.size * 2)[:2]
    if args.begin:
        state = from_image(vqgan, to_tensor(open_image(args.begin)).to(device), args.seed)
    elif painter:
        painter.prior.to(device)
        with tqdm(desc=f"{free} free pictures", unit="cell", file=sys.stdout, disable=None) as bar:
            begun = best_of_free(
                painter, models[0], scenes[0], (height, width), free, args.seed, lambda event: advance(bar, event),
                asked(painter, scenes[0]),
            )  # fmt: skip
        state = from_canvas(vqgan, begun, args.seed)
    else:
        state = begin_painting(vqgan, height, width, args.seed)
    total = args.steps + (args.frames - 1) * args.frame_steps if film else args.steps
    print(f"{total} steps, about {total * estimate_step(vqgan, models, state, settings):.0f} s")
    with tqdm(total=total, unit="step", file=sys.stdout, disable=None) as bar:
        if film:
            frames = []
            camera = Camera(zoom=args.zoom, turn=args.turn)
            for frame in story(vqgan, models, scenes, state, settings, camera, args.frames, args.frame_steps):
                bar.update()
                frames += [] if frame.image is None else to_pil(frame.image.cpu())
            write_film(frames, args.output)
            print(f"{len(frames)} frames in {args.output}")
            return 0
        for event in guide_steps(vqgan, models, scenes[0], state, settings):
            bar.update()
            bar.set_postfix(distance=f"{event.loss:.3f}")
    canvas = painted_canvas(vqgan, event.state, settings)
    with torch.no_grad():
        image = decode_canvas(vqgan, canvas).cpu()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    save_image(to_pil(image)[0], args.output)
    print(args.output)
    if judge:
        words = [prompt.text for prompt in scenes[0] if prompt.text]
        for text, score in zip(words, score_texts(judge, (image + 1) / 2, words)[0].tolist(), strict=True):
            print(f"{score:.3f} {text}")
    return 0


def asked(painter: Bundle, prompts: list[Prompt]) -> Sketch | None:
    """The words of prompts that attract, for a model of sketches that knows words; None for another one."""
    from ...core.conditions.sketch import Sketch

    if painter.condition_config.kind != "sketch" or not (painter.vocabulary and painter.vocabulary.words):
        return None
    return Sketch(words=known_words(painter, ", ".join(p.text for p in prompts if p.text and p.weight > 0)))


def advance(bar: Any, event: Any) -> None:
    """One cell more."""
    bar.total = event.total
    bar.update()


def write_film(frames: list, path: Path) -> None:
    """Pictures as an H.264 film that plays anywhere; sides are made even, as it demands."""
    import av

    from ...core.storage.atomic import atomic_write

    width, height = (side - side % 2 for side in frames[0].size)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial, av.open(str(partial), "w", format="mp4") as film:
        stream = film.add_stream("libx264", rate=FRAMES_A_SECOND)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in frames:
            frame = av.VideoFrame.from_image(picture.crop((0, 0, width, height)))
            film.mux(stream.encode(frame))
        film.mux(stream.encode())
