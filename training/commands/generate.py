"""Make many pictures with a model: tar files of PNG or WebP with their codes and how they were made.

Picture i has seed SEED + i, whatever the number of processes (torchrun --nproc-per-node 8 -m tessera generate ...).
What was stopped goes on by the same command. `evaluate pictures` compares them with others.
"""

import argparse
import logging
import sys

from .arguments import file_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("bundle", type=file_path, help="model file")
    parser.add_argument("--number", type=int, required=True, help="how many pictures")
    parser.add_argument("--out", type=file_path, required=True, help="folder for the tar files")
    parser.add_argument("--classes", default="", help="of a model of classes, in turn: 0-999, or 1,5,7")
    parser.add_argument(
        "--guides", default="", help="address of shards (see `data shard`) whose pictures or depth maps guide, in turn"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the first picture (default 0)")
    parser.add_argument("--temperature", type=float, default=1.0, help="boldness; 1 is the model as trained (default)")
    parser.add_argument("--top-k", type=int, default=0, help="draw among the k most likely codes; 0 is off (default)")
    parser.add_argument("--top-p", type=float, default=1.0, help="draw among this share of the probability; 1 is off")
    parser.add_argument("--guidance", type=float, default=1.0, help="how strongly the condition pulls; 1 is off")
    parser.add_argument("--batch", type=int, default=16, help="pictures at once (default 16)")
    parser.add_argument("--per-file", type=int, default=1000, help="pictures in a tar file (default 1000)")
    parser.add_argument("--format", choices=("png", "webp"), default="png", help="of the pictures; both without loss")


def run(args: argparse.Namespace) -> int:
    """Make the pictures; 0 when done."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    import dataclasses

    from ...core.loading import load
    from ...core.sampling.settings import SamplingSettings
    from ..config.runs import LoopConfig
    from ..engine.distributed import lost_processes_told
    from ..engine.lock import locked_folder
    from ..engine.loop import make_accelerator
    from ..shards.generating import Order, finish, generate

    settings = SamplingSettings(
        temperature=args.temperature, top_k=args.top_k, top_p=args.top_p, guidance_scale=args.guidance
    )
    order = Order(
        number=args.number, seed=args.seed, settings=settings, labels=numbers(args.classes), guides=args.guides,
        batch=args.batch, shard_items=args.per_file, kind=args.format,
    )  # fmt: skip
    accelerator, bundle = make_accelerator(LoopConfig()), load(args.bundle)
    for field in dataclasses.fields(bundle):
        if hasattr(part := getattr(bundle, field.name), "parameters"):
            part.to(accelerator.device)
    with lost_processes_told(), locked_folder(args.out) as output:
        names = generate(bundle, order, output)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            finish(output, names)
            print(f"{args.number} pictures in {len(names)} tar files below {args.out}")
    return 0


def numbers(text: str) -> tuple[int, ...]:
    """ "0-3,7" -> (0, 1, 2, 3, 7)."""
    found: list[int] = []
    for part in filter(None, text.split(",")):
        low, separator, high = part.strip().partition("-")
        if not low.isdigit() or (separator and not high.isdigit()):
            raise ValueError(f"--classes {text} can't be read; write numbers such as 0-999 or 1,5,7")
        found += range(int(low), int(high or low) + 1)
    return tuple(found)
