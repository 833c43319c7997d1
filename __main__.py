"""`python -m tessera COMMAND`: picks the command's module and imports no other."""

import argparse
import importlib
import os
import sys

COMMANDS = {
    "demo": (".training.commands.demo", "make pictures with the embedded weights and show what they came from"),
    "paint": (".training.commands.paint", "paint a picture or a film by words"),
    "classify": (".training.commands.classify", "classify pictures by the names of classes alone (zero-shot)"),
    "data": (".training.commands.data", "pack a folder of pictures into tar files for training on many machines"),
    "train": (".training.commands.train", "train a VQGAN or a prior on a folder of pictures; resumes by itself"),
    "evaluate": (".training.commands.evaluate", "measure trained weights on held-out pictures"),
    "experiment": (".training.commands.experiment", "run one of the paper's comparisons on a folder of pictures"),
    "generate": (".training.commands.generate", "make pictures in any number, on all processes, as tar files"),
    "bundle": (".training.commands.bundle", "join VQGAN, condition and prior into one model file"),
    "convert": (".training.commands.convert", "turn a released checkpoint into one model file of ours"),
    "inspect": (".training.commands.inspect", "say what a model file or released checkpoint holds"),
    "models": (".training.commands.models", "list the published models that load here, and fetch one"),
    "bench": (".benchmarks.command", "measure speed and memory against named baselines"),
}


def build_parser(chosen: str | None) -> argparse.ArgumentParser:
    """The parser with all commands listed and the arguments of `chosen` declared."""
    parser = argparse.ArgumentParser(prog="python -m tessera", description="VQGAN and transformer image synthesis.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module_name, summary) in COMMANDS.items():
        if name != chosen:
            commands.add_parser(name, help=summary)
            continue
        module = importlib.import_module(module_name, __package__)
        command = commands.add_parser(
            name, help=summary, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(arguments: list[str]) -> int:
    """Run one command; its exit code, or 2 after one line about what is wrong with the input."""
    chosen = next((argument for argument in arguments if not argument.startswith("-")), None)
    code = 0
    try:
        args = build_parser(chosen).parse_args(arguments)
        code = args.run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read what is printed has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code
    except OSError as error:  # no permission, a file in the way, no room: what the system says, and of what
        problem = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except ValueError as error:
        problem = " ".join(str(error).split())
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which is not imported for this
            raise
        problem = " ".join(str(error).split())
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith(__package__):
            raise
        problem = f"the package {error.name} is missing; install all with: pip install -e '.[training]'"
    except KeyboardInterrupt:
        return 130
    print(f"tessera: error: {problem}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
