"""Turn a released checkpoint into one model file of ours: safetensors that say what they hold and load at once.

IN is a checkpoint of taming transformers or latent diffusion, a folder of diffusers, or a file of ours.
"""

import argparse
import sys

from .arguments import file_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("input", type=file_path, metavar="IN", help="checkpoint, or folder of diffusers")
    parser.add_argument("output", type=file_path, metavar="OUT", help="the model file to write (.safetensors)")
    parser.add_argument(
        "--config", type=file_path, metavar="YAML", help="the YAML that came with IN, if it doesn't lie beside it"
    )
    parser.add_argument("--vqgan", type=file_path, metavar="FILE", help="of a LlamaGen transformer: its tokenizer")
    parser.add_argument("--window", type=int, metavar="N", help="of a LlamaGen transformer: cells a side")
    parser.add_argument("--half", action="store_true", help="store fp16: half the size, hardly another picture")


def run(args: argparse.Namespace) -> int:
    """Convert and say what came out; 0 when done."""
    from tqdm import tqdm

    from ...core.autoencoders.vqgan_file import save_vqgan
    from ...core.bundle_file import save_bundle
    from ...core.inspection import inspect_model
    from ...core.loading import load, load_vqgan

    if args.output.suffix != ".safetensors":
        raise ValueError(f"{args.output} is not the name of a model file; end it with .safetensors")
    if args.output.exists() and args.input.exists() and args.output.samefile(args.input):
        raise ValueError(f"{args.output} is the file to convert; choose another name")
    companions = {"vqgan": args.vqgan, "window": args.window}
    contents = inspect_model(args.input, args.config, **companions)
    if contents.kind not in ("vqgan", "bundle"):
        raise ValueError(f"{args.input.name} holds a {contents.kind} alone; join it with its VQGAN by `bundle`")
    known = {"license": contents.license, "trained_on": contents.trained_on or f"unknown; from {args.input.name}"}
    with tqdm(
        total=4 * sum(contents.parameters.values()), unit="B", unit_scale=True, file=sys.stdout, disable=None
    ) as bar:
        if contents.kind == "bundle":
            save_bundle(args.output, load(args.input, args.config, bar.update, **companions), half=args.half, **known)
        else:
            save_vqgan(args.output, load_vqgan(args.input, args.config, bar.update), half=args.half, **known)
        bar.update(bar.total - bar.n)
    print(f"{args.output}: {contents.kind}, {args.output.stat().st_size / 1e6:.1f} MB")
    return 0
