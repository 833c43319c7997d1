"""Classify pictures by the names of classes alone: a folder for each class, top-1 and top-5 printed (zero-shot).

    python -m tessera classify pictures --clip ViT-B-32.safetensors
    pictures/tabby cat/*.jpg, pictures/golden retriever/*.jpg, ...

The names of the folders are the names of the classes; a file with one `folder<TAB>name` in each line renames them.
"""

import argparse
import sys
from pathlib import Path

from .paint import CLIP

AT_ONCE = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("folder", type=Path, help="a folder with one folder of pictures for each class")
    parser.add_argument("--clip", type=Path, default=CLIP, help="a CLIP (default: the embedded one)")
    parser.add_argument("--names", type=Path, metavar="FILE", help="better names: folder, tab, name in each line")
    parser.add_argument(
        "--template", nargs="+", metavar="TEXT",
        help='sentences with {} for the name; their mean counts (default: seven of Radford et al.; "{}" for our own)',
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Classify all pictures; prints a line for each class, then top-1 and top-5 over all."""
    import torch
    from tqdm import tqdm

    from ...core.clip.clip_file import open_clip
    from ...core.clip.scoring import TEMPLATES, classify, embed_classes, prepare_images
    from ...core.images.io import open_image, to_tensor
    from ..data.folder import SUFFIXES

    classes = sorted(path for path in args.folder.iterdir() if path.is_dir()) if args.folder.is_dir() else []
    files = [
        (n, path)
        for n, folder in enumerate(classes)
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES
    ]
    if len(classes) < 2 or not files:
        raise ValueError(
            f"{args.folder} holds {len(classes)} folders with {len(files)} pictures; give a folder for each class"
        )
    better = read_names(args.names) if args.names else {}
    names = [better.get(folder.name, folder.name.replace("_", " ")) for folder in classes]
    model = open_clip(args.clip)
    model.clip.to("cuda" if torch.cuda.is_available() else "cpu")
    templates = args.template or (["{}"] if args.clip == CLIP else TEMPLATES)
    vectors, size = embed_classes(model, names, templates), model.clip.config.image_size
    first, five = torch.zeros(len(classes)), torch.zeros(len(classes))
    for start in tqdm(range(0, len(files), AT_ONCE), unit="batch", file=sys.stdout, disable=None):
        part = files[start : start + AT_ONCE]
        images = [prepare_images((to_tensor(open_image(path)) + 1) / 2, size) for _, path in part]
        found = classify(model, torch.cat(images), vectors).classes.cpu()  # [B, n]
        for (number, _), ranked in zip(part, found.tolist(), strict=True):
            first[number] += ranked[0] == number
            five[number] += number in ranked[:5]
    counts = torch.bincount(torch.tensor([number for number, _ in files]), minlength=len(classes))
    for name, right, count in zip(names, first.tolist(), counts.tolist(), strict=True):
        print(f"{right / max(1, count):7.1%} of {count:5}  {name}")
    print(f"top-1 {first.sum() / len(files):.2%}, top-5 {five.sum() / len(files):.2%} of {len(files)} pictures, "
          f"{len(classes)} classes; chance {1 / len(classes):.2%}")  # fmt: skip
    return 0


def read_names(path: Path) -> dict[str, str]:
    """Names of folders; ValueError for a line without a tab."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    for line in lines:
        if "\t" not in line:
            raise ValueError(f"{path.name}: {line[:60]!r} has no tab between folder and name")
    return dict(line.split("\t", 1) for line in lines)
