"""An accelerator where there is none: tensors that compute on the CPU and say that they are on "cuda" or "mps".

    device = torch.device("cuda")
    with Pretended() as seen:
        put(module, device)
        module(picture.to(device))
    seen.copies, seen.waits, seen.launches

They refuse what the real ones refuse: to be mixed with tensors of another device (numbers without dimensions apart),
to be read by numpy, random numbers of a CPU's generator, and on mps float64. Counted is what costs on real ones:
operations that start work on the device, copies between it and the host, and the times the host waits for it.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

COPIES = {"_to_copy", "copy_", "copy"}  # may join two devices
INDEXING = {"index", "index_put_", "index_put", "_index_put_impl_"}  # may take indices of the CPU
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "bincount", "repeat_interleave"}


class PretendedTensor(Tensor):
    """A CPU tensor that says it is elsewhere; made by `wrap`."""

    inner: Tensor
    where: torch.device

    @staticmethod
    def __new__(cls, inner: Tensor, where: torch.device) -> PretendedTensor:
        made = Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            requires_grad=inner.requires_grad,
        )  # fmt: skip
        made.inner, made.where = inner.detach(), where
        return made

    @property
    def device(self) -> torch.device:
        return self.where

    @property
    def is_cpu(self) -> bool:
        return False

    @property
    def is_cuda(self) -> bool:
        return self.where.type == "cuda"

    @property
    def is_mps(self) -> bool:
        return self.where.type == "mps"

    def __repr__(self) -> str:
        return f"PretendedTensor({tuple(self.shape)}, {self.dtype}, {self.where})"

    def __deepcopy__(self, memo: dict) -> PretendedTensor:
        made = wrap(self.inner.clone(), self.where).requires_grad_(self.requires_grad)
        made.__dict__.update({k: copy.deepcopy(v, memo) for k, v in vars(self).items() if k not in ("inner", "where")})
        return made

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return run(operation, args, kwargs or {})


def wrap(inner: Tensor, where: torch.device) -> PretendedTensor:
    """Numbers on a device; TypeError for float64 on mps."""
    if where.type == "mps" and inner.dtype in (torch.float64, torch.complex128):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")
    with torch.inference_mode(False):  # views of weights are none of inference, whatever the mode
        return PretendedTensor(inner, where)


def run(operation: Any, args: tuple, kwargs: dict) -> Any:
    """An operation on the numbers themselves, once it is sure that a real device would do it."""
    kind = Kind.of(operation)
    given = [*tensors(args), *tensors(tuple(kwargs.values()))]
    wheres = {value.where for value in given if isinstance(value, PretendedTensor)}
    plain = [value for value in given if not isinstance(value, PretendedTensor)]
    strangers = [value for value in plain if value.ndim]
    if kind.indexes and isinstance(args[0], PretendedTensor):
        indices = list(tensors(args[1]))
        moved = [value for value in indices if not isinstance(value, PretendedTensor)]
        strangers = [value for value in strangers if not any(value is index for index in moved)]
        masks = sum(value.dtype in (torch.bool, torch.uint8) for value in indices)
        count(copies=len(moved), waits=len(moved) + masks)
    elif kind.indexes:
        strangers = [args[0]]
    if (strangers and not kind.copies) or len(wheres) > 1:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{' and '.join(sorted(str(w) for w in wheres))}{' and cpu' if strangers else ''}! ({operation})"
        )
    (where,) = wheres
    count(waits=int(kind.waits and kwargs.get("output_size") is None), launches=int(not kind.views))
    if kind.copies and plain:
        count(copies=1, waits=1)
    result = operation(*bare(args), **{name: bare(value) for name, value in kwargs.items()})
    return args[0] if kind.in_place else around(result, where)


class Kind(NamedTuple):
    """What kind of operation it is."""

    views: bool  # starts nothing
    in_place: bool  # gives its first argument back, which it has written to
    indexes: bool
    copies: bool
    waits: bool

    @staticmethod
    @functools.cache
    def of(operation: Any) -> Kind:
        schema = operation._schema
        name = schema.name.split("::")[1]
        aliases = [r.alias_info for r in schema.returns]
        first = schema.arguments[0].alias_info if schema.arguments else None
        views = any(alias is not None and not alias.is_write for alias in aliases)
        in_place = first is not None and first.is_write and bool(schema.returns)  # lists are written to, not given back
        return Kind(views, in_place, name in INDEXING, name in COPIES, name in WAITS)


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in an operation's arguments."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from tensors(one)


def bare(value: Any) -> Any:
    """Arguments as the CPU takes them."""
    if isinstance(value, PretendedTensor):
        return value.inner
    return type(value)(bare(one) for one in value) if type(value) in (list, tuple) else value


def around(value: Any, where: torch.device) -> Any:
    """Results as they are on a device."""
    if isinstance(value, Tensor):
        return wrap(value, where)
    return type(value)(around(one, where) for one in value) if type(value) in (list, tuple) else value


def count(**numbers: int) -> None:
    """Add to the counts of the mode that is on."""
    if Pretended.on is not None:
        for name, number in numbers.items():
            setattr(Pretended.on, name, getattr(Pretended.on, name) + number)


def is_elsewhere(device: Any) -> bool:
    """True for a device that has to be pretended."""
    return device is not None and not isinstance(device, Tensor) and torch.device(device).type in ("cuda", "mps")


class Pretended(TorchFunctionMode):
    """While it is on, tensors can be made on "cuda" and "mps", and moved there and back.

    launches: operations that started work on the device.
    copies: between the host and the device.
    waits: of the host for the device.
    """

    on: Pretended | None = None

    def __init__(self):
        super().__init__()
        self.launches = self.copies = self.waits = 0

    def __enter__(self):
        Pretended.on = self
        super().__enter__()
        return self

    def __exit__(self, *error):
        super().__exit__(*error)
        Pretended.on = None

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(function, "__name__", "")
        if name in MOVES and args and isinstance(args[0], Tensor):
            return MOVES[name](self, function, args, kwargs)
        if name in ("numpy", "__array__") and isinstance(args[0], PretendedTensor):
            raise TypeError(f"can't convert {args[0].where} device type tensor to numpy. Use Tensor.cpu() first.")
        if name in ("tolist", "__len__") and isinstance(args[0], PretendedTensor):
            if name == "tolist":
                count(copies=1, waits=1)
            return function(args[0].inner)
        if name == "is_pinned":
            return False
        if is_elsewhere(kwargs.get("device")) and name != "__get__":
            return self.make(function, args, kwargs)
        return function(*args, **kwargs)

    def make(self, function: Callable, args: tuple, kwargs: dict) -> Any:
        """A tensor made on the device."""
        where = torch.device(kwargs.pop("device"))
        generator = kwargs.get("generator")
        if generator is not None and generator.device.type != where.type:
            raise RuntimeError(f"Expected a '{where.type}' device type for generator but found '{generator.device}'")
        if getattr(function, "__name__", "") in ("tensor", "as_tensor", "asarray"):
            if args and isinstance(args[0], Tensor):
                return move(args[0], where, kwargs.get("dtype"))
            count(copies=1, waits=1)
        count(launches=1)
        return around(function(*bare(args), **{name: bare(value) for name, value in kwargs.items()}), where)


def move(tensor: Tensor, where: torch.device, dtype: torch.dtype | None, duplicate: bool = False) -> Tensor:
    """A tensor on a device; itself where nothing changes. Gradients go back the way it came."""
    dtype = dtype or tensor.dtype
    if tensor.device == where and tensor.dtype == dtype and not duplicate:
        return tensor
    if tensor.device == where:
        return torch.ops.aten._to_copy(tensor, dtype=dtype)
    count(copies=1, waits=1)
    return Moved.apply(tensor, where, dtype)


class Moved(torch.autograd.Function):
    """The copy from device to device."""

    @staticmethod
    def forward(context, tensor, where, dtype):
        context.before = tensor.device, tensor.dtype
        inner = tensor.inner if isinstance(tensor, PretendedTensor) else tensor
        if where.type == "cpu":
            return inner.detach().to(dtype, copy=True)
        return wrap(inner.detach().to(dtype, copy=True), where)

    @staticmethod
    def backward(context, gradient):
        return move(gradient, *context.before), None, None


def to(seen: Pretended, function: Callable, args: tuple, kwargs: dict) -> Tensor:
    """`Tensor.to` in all its forms."""
    tensor, *rest = args
    where, dtype = kwargs.get("device"), kwargs.get("dtype")
    other = kwargs.get("other")
    for value in rest:
        if isinstance(value, Tensor):
            other = value
        elif isinstance(value, torch.dtype):
            dtype = value
        elif isinstance(value, torch.device | str):
            where = value
    if other is not None:
        where, dtype = other.device, other.dtype
    where = tensor.device if where is None else torch.device(where)
    if where.type == "cpu" and not isinstance(tensor, PretendedTensor):
        return function(*args, **kwargs)
    return move(tensor, where, dtype, kwargs.get("copy", False))


def cpu(seen: Pretended, function: Callable, args: tuple, kwargs: dict) -> Tensor:
    """`Tensor.cpu`."""
    return move(args[0], torch.device("cpu"), None)


def cuda(seen: Pretended, function: Callable, args: tuple, kwargs: dict) -> Tensor:
    """`Tensor.cuda`."""
    return move(args[0], torch.device("cuda"), None)


MOVES = {"to": to, "cpu": cpu, "cuda": cuda}


def put(module: nn.Module, where: torch.device) -> nn.Module:
    """Move a module's parameters and buffers, as `Module.to` does."""
    for part in module.modules():
        put_part(part, where)
    return module


def put_part(part: nn.Module, where: torch.device) -> None:
    """The parameters and buffers of one module, without those of its children."""
    for name, value in part._parameters.items():
        if value is not None and value.device != where:
            part._parameters[name] = nn.Parameter(placed(value, where), requires_grad=value.requires_grad)
    for name, value in part._buffers.items():
        if value is not None and value.device != where:
            part._buffers[name] = placed(value, where)


def placed(value: Tensor, where: torch.device) -> Tensor:
    """A tensor's numbers on a device."""
    inner = value.detach()
    inner = inner.inner if isinstance(inner, PretendedTensor) else inner
    return inner if where.type == "cpu" else wrap(inner, where)


def unload_smallest(module: nn.Module, share: float) -> None:
    """Bring a module's smallest parts back to the CPU, as ComfyUI does to make room, until `share` of its bytes are."""
    sizes = {part: sum(p.nbytes for p in part.parameters(recurse=False)) for part in module.modules()}
    left = share * sum(sizes.values())
    for part in sorted((part for part in sizes if sizes[part]), key=sizes.get):
        if left <= 0:
            break
        put_part(part, torch.device("cpu"))
        left -= sizes[part]


@contextlib.contextmanager
def pretended(monkeypatch: Any, where: str) -> Iterator[tuple[torch.device, Pretended]]:
    """A device with 8 GB of free memory, and what is counted on it."""
    for name, value in {"memory_reserved": 0, "memory_allocated": 0, "mem_get_info": (2**33, 2**33)}.items():
        monkeypatch.setattr(torch.cuda, name, lambda device=None, value=value: value)
    real_to = nn.Module.to

    def module_to(module: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
        """`Module.to`, which would fill parameters of the CPU with numbers of elsewhere."""
        device = next((one for one in (*args, *kwargs.values()) if isinstance(one, torch.device)), None)
        return put(module, device) if device is not None else real_to(module, *args, **kwargs)

    monkeypatch.setattr(nn.Module, "to", module_to)
    with Pretended() as seen:
        yield torch.device(where), seen
