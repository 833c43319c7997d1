"""Our model file: one `.safetensors` whose metadata says what it holds, loaded strictly.

Metadata: `format` ("tessera/1"), `kind` ("vqgan", "prior" or "bundle"), `config` (JSON: one entry a part),
`license`, `trained_on`. Tensor names begin with their part: `vqgan.`, `condition.`, `prior.`.
"""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .atomic import atomic_write
from .door import brief, check_numbers, existing_file
from .header import check_header
from .old_names import with_current_names

FORMAT = "tessera/1"
MAX_VALUE = 2**31  # of a number in a config
MAX_LIST_LENGTH = 64
TABLE_LENGTH = 101  # of percentiles, 0 to 100


class ModelFile(NamedTuple):
    """A model file's contents, not yet made into modules."""

    path: Path
    kind: str
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    license: str
    trained_on: str


def write_model_file(
    path: str | Path,
    kind: str,
    config: dict[str, Any],
    parts: dict[str, dict[str, Tensor]],
    *,
    half: bool = False,
    license: str = "",
    trained_on: str = "",
) -> None:
    """Write parts (name -> state dict) under a temporary name, then rename: never a half-written file.

    Args:
        half: store floating-point tensors as fp16.
    """
    tensors = {}
    for part, state in parts.items():
        for name, tensor in state.items():
            tensor = tensor.detach().cpu().contiguous()
            tensors[f"{part}.{name}"] = tensor.half() if half and tensor.is_floating_point() else tensor
            if half and not torch.isfinite(tensors[f"{part}.{name}"]).all():
                raise ValueError(f"{part}.{name} holds numbers beyond what fp16 can; store it in float32")
    metadata = {
        "format": FORMAT,
        "kind": kind,
        "config": json.dumps(config),
        "license": license,
        "trained_on": trained_on,
    }
    with atomic_write(path) as partial:
        save_file(tensors, partial, metadata)


def read_model_file(path: str | Path, prior_dtype: torch.dtype = torch.float32) -> ModelFile:
    """Read a model file; tensors come back in float32, those of a prior in `prior_dtype`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, not safetensors, or not one of ours.
    """
    path = existing_file(path, "a .safetensors model file")
    try:
        check_header(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                found = metadata.get("format", "none")[:40]
                raise ValueError(
                    f"{path.name} is a safetensors file of another program (format {found!r}, expected {FORMAT!r}); "
                    "choose a file made by Tessera"
                )
            names = list(file.keys())
            check_numbers(sum(math.prod(file.get_slice(name).get_shape()) for name in names), path.name)
            tensors = {
                name: in_precision(file.get_tensor(name), prior_dtype if name.startswith("prior.") else torch.float32)
                for name in names
            }
    except (SafetensorError, OSError, RuntimeError, AttributeError, KeyError, TypeError) as error:  # dtypes, sizes
        problem = brief(error, 200)
        raise ValueError(f"{path.name} is truncated or not a safetensors file ({problem}); fetch it again") from error
    config, words = parse_config(metadata, path.name), [metadata.get(key, "") for key in ("license", "trained_on")]
    return ModelFile(path, metadata.get("kind", ""), config, tensors, *words)


def parse_config(metadata: dict[str, str], name: str) -> dict[str, Any]:
    """The config of each part in the metadata of the file `name`; ValueError if there is none."""
    try:
        return dict(json.loads(metadata["config"]))
    except (KeyError, TypeError, ValueError, RecursionError) as error:  # none, not JSON, or JSON but no mapping
        raise ValueError(f"{name} has no readable config in its metadata; fetch it again") from error


def in_precision(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Floating-point numbers of any width as `dtype`; whole numbers as they are."""
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def in_float32(tensor: Tensor) -> Tensor:
    """Floating-point numbers of any width as float32; whole numbers as they are."""
    return in_precision(tensor, torch.float32)


def config_from(kind: type, values: Any, name: str) -> Any:
    """A config dataclass from the JSON in a file; ValueError names the file and what does not fit."""
    if not isinstance(values, dict):
        problem = f"{kind.__name__} is a {type(values).__name__}"
        raise ValueError(f"{name}: its config does not fit this version ({problem}); update Tessera")
    try:
        kinds, values = get_type_hints(kind), with_current_names(kind, values)
        for key, value in values.items():
            check_value(key, value, kinds.get(key, object))
        return kind(**values)
    except TypeError as error:
        problem = brief(error, 150)
        raise ValueError(f"{name}: its config does not fit this version ({problem}); update Tessera") from error
    except ValueError as error:
        raise ValueError(f"{name}: {brief(error, 300)}") from error


def check_value(key: str, value: Any, kind: Any) -> None:
    """ValueError for a value that a config of this type can't have, before anything is computed with it."""
    if kind is int and (type(value) is not int or abs(value) > MAX_VALUE):
        raise ValueError(f"{key} is {brief(value)!r}; a whole number up to {MAX_VALUE} is wanted")
    if kind is float and (type(value) not in (int, float) or not abs(value) <= MAX_VALUE):
        raise ValueError(f"{key} is {brief(value)!r}; a number is wanted")
    if kind is bool and type(value) is not bool:
        raise ValueError(f"{key} is {brief(value)!r}; true or false is wanted")
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple) or len(value) > MAX_LIST_LENGTH:
            raise ValueError(f"{key} is {brief(value)!r}; a list of at most {MAX_LIST_LENGTH} numbers is wanted")
        for one in value:
            check_value(key, one, get_args(kind)[0])


def check_finite(tensor: Tensor, tensor_name: str, name: str) -> None:
    """ValueError unless these weights of the file `name` are finite numbers of floating point."""
    if not tensor.is_floating_point():
        raise ValueError(f"{name}: {tensor_name} holds {str(tensor.dtype)[6:]}, weights are of floating point")
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{name}: {tensor_name} holds NaN or infinite numbers, so it is of no use; take an older one")


class Unfilled(TorchFunctionMode):
    """While it is on, torch.nn.init draws no first values: on tensors without memory it has nothing to fill, and
    the first time it would import half of torch's compiler, seconds that loading a file need not take."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        given = kwargs or {}
        if getattr(function, "__module__", "") == "torch.nn.init":
            return args[0] if args else given["tensor"]
        return function(*args, **given)


def build_empty(kind: type, config: Any, name: str) -> Any:
    """A module without memory, to be filled; ValueError if the config of the file `name` describes none."""
    try:
        with torch.device("meta"), Unfilled():
            return kind(config)
    except (RuntimeError, TypeError, OverflowError, MemoryError) as error:
        problem = brief(str(error).split("\n")[0], 200)
        raise ValueError(f"{name}: no model can be built from its config ({problem}); fetch it again") from error


def check_shapes(module: nn.Module, shapes: dict[str, tuple[int, ...]], name: str) -> None:
    """ValueError that names the missing, unexpected and misshapen tensors of the file `name`, if there are any."""
    wanted = {n: tuple(t.shape) for n, t in module.state_dict().items()}
    problems = [f"{n} is missing" for n in wanted if n not in shapes]
    problems += [f"{brief(n)} is unexpected" for n in shapes if n not in wanted]
    problems += [f"{n} is {s} instead of {wanted[n]}" for n, s in shapes.items() if n in wanted and s != wanted[n]]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError(f"{name} does not hold what its config says: {', '.join(problems[:5])}{more}")


def load_strictly(module: nn.Module, tensors: dict[str, Tensor], name: str) -> None:
    """Make `tensors` the parameters of `module`, for use, not for training; `name` is the file's.

    The module may have been made on the "meta" device: the tensors themselves become its parameters, so
    memory holds them once.

    Raises:
        ValueError: names the missing, unexpected and misshapen tensors.
    """
    check_shapes(module, {n: tuple(t.shape) for n, t in tensors.items()}, name)
    wanted = module.state_dict()
    for tensor_name, tensor in tensors.items():
        if wanted[tensor_name].is_floating_point():
            check_finite(tensor, tensor_name, name)
    module.load_state_dict(tensors, assign=True)
    module.eval().requires_grad_(False)


def load_part(module: nn.Module, file: ModelFile, part: str) -> None:
    """Fill `module` with the tensors named `<part>.*`; errors as `load_strictly`."""
    prefix = f"{part}."
    tensors = {n.removeprefix(prefix): t for n, t in file.tensors.items() if n.startswith(prefix)}
    load_strictly(module, tensors, f"{file.path.name}, {part}")


def part_config(file: ModelFile, part: str) -> dict[str, Any]:
    """The config entry of a part; ValueError if the file holds none."""
    if part not in file.config:
        held = ", ".join(file.config) or "nothing"
        raise ValueError(f"{file.path.name} holds {held}, not a {part}; choose another file")
    return file.config[part]


def table_from(numbers: Any, name: str) -> Tensor | None:
    """The table of a file `name`; None where it has none, ValueError where it is none."""
    if numbers is None:
        return None
    try:
        table = torch.tensor(numbers, dtype=torch.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: its table of scores holds no numbers; fetch it again") from error
    if table.shape != (TABLE_LENGTH,) or not torch.isfinite(table).all() or (table.diff() < 0).any():
        raise ValueError(f"{name}: its table of scores is not {TABLE_LENGTH} ascending numbers; fetch it again")
    return table
