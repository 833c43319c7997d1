"""Pickles read as data: what a checkpoint's pickle says, without calling or importing anything it names.

A pickle is a program that builds objects. This interpreter runs only its data part: containers, numbers and
texts become themselves; a class or function is a `Global`, its name; calling one is a `Call`, a record of
what would have been called with what. So no file, however hostile, can make anything happen.

torch's own careful reader (`torch.load(weights_only=True)`) comes to the same, but refuses a whole checkpoint
for one harmless class, such as Lightning's callbacks, unless that class is declared first; the calls that
list and declare them are missing in older torches and don't know the older file format; and it reads every
tensor, the optimizer's too, before one can be used. This works alike with every torch, and says where the
tensors lie instead of reading them.

Time and memory are bounded whatever the file says: one pass over at most `MAX_STEPS` instructions, each of
which makes at most one object; nothing is copied, printed, compared or hashed that could be deeply nested.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

MAX_STEPS = 1_000_000  # a checkpoint of 1000 tensors and their optimizer states takes about 150,000
MAX_KEY = 2**31  # whole numbers as keys; larger ones could be chosen to collide


class Global(NamedTuple):
    """A class or function by name, such as `torch._utils _rebuild_tensor_v2`."""

    module: str
    name: str


@dataclass(eq=False, slots=True)
class Call:
    """An object that the pickle would have made by calling `function(*arguments)`."""

    function: Any
    arguments: Any
    state: Any = None  # what it would have been given afterwards
    items: dict[Any, Any] | None = None  # for objects filled like a dictionary


class Persistent(NamedTuple):
    """A reference to something outside the pickle; in checkpoints, a tensor's storage."""

    identity: Any


MARK = object()  # on the stack: where a group of entries begins


def read_pickle(file: BinaryIO) -> Any:
    """The object a pickle describes, as data; reads up to its end mark and not beyond.

    `collections.OrderedDict` becomes a dict; sets become lists; dictionaries lose entries whose keys are neither
    text, bytes, classes, None nor whole numbers below 2**31.

    Args:
        file: in memory, or no longer than may be read into it.
    Raises:
        ValueError: broken, longer than any checkpoint's, or using what no checkpoint uses.
    """
    try:
        return interpret(file)
    except (IndexError, KeyError, TypeError, AttributeError, EOFError, OverflowError) as error:
        raise ValueError(f"its pickle is broken ({type(error).__name__}: {error})") from error


def interpret(file: BinaryIO) -> Any:
    """Run the data part of the pickle machine."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        items = []
        while (item := stack.pop()) is not MARK:
            items.append(item)
        return items[::-1]

    for step, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if step >= MAX_STEPS:
            raise ValueError(f"its pickle has more than {MAX_STEPS} instructions")
        match opcode.name:
            case name if name in PLAIN:
                stack.append(argument)
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case "MARK":
                stack.append(MARK)
            case "POP":
                stack.pop()
            case "POP_MARK":
                since_mark()
            case "DUP":
                stack.append(stack[-1])
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode.name == "NEWTRUE")
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                number = int(opcode.name[-1])
                stack[-number:] = [tuple(stack[-number:])]
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "LIST" | "FROZENSET":
                stack.append(since_mark())
            case "DICT":
                items = since_mark()
                stack.append({})
                fill(stack[-1], items)
            case "APPEND":
                value = stack.pop()
                extend(stack[-1], [value])
            case "APPENDS" | "ADDITEMS":
                values = since_mark()
                extend(stack[-1], values)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                fill(stack[-1], [key, value])
            case "SETITEMS":
                items = since_mark()
                fill(stack[-1], items)
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[check_place(argument)] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[check_place(argument)])
            case "GLOBAL":
                stack.append(make_global(*str(argument).split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(make_global(module, name))
            case "INST":
                stack.append(make_call(make_global(*str(argument).split(" ", 1)), tuple(since_mark())))
            case "OBJ":
                items = since_mark()
                stack.append(make_call(items[0], tuple(items[1:])))
            case "REDUCE" | "NEWOBJ":
                arguments, function = stack.pop(), stack.pop()
                stack.append(make_call(function, arguments))
            case "NEWOBJ_EX":
                keywords, arguments, function = stack.pop(), stack.pop(), stack.pop()
                stack.append(make_call(function, (arguments, keywords)))
            case "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], Call):
                    stack[-1].state = state
            case "PERSID":
                stack.append(Persistent(argument))
            case "BINPERSID":
                stack.append(Persistent(stack.pop()))
            case name:
                raise ValueError(f"its pickle uses {name}, which no checkpoint needs")
    raise ValueError("its pickle has no end")


# opcodes whose argument is the value itself
PLAIN = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip


def check_place(number: Any) -> int:
    """A place of the memo."""
    if not 0 <= number < 2 * MAX_KEY:
        raise ValueError("its pickle remembers something at a place that no pickle has")
    return number


def make_global(module: Any, name: Any) -> Global:
    """A class or function by its two names."""
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError("its pickle names a class by something that is not text")
    return Global(module, name)


def make_call(function: Any, arguments: Any) -> Any:
    """The record of a call; an ordered dictionary is the one thing made for real, as a dict."""
    if isinstance(function, Global) and function == ("collections", "OrderedDict") and arguments == ():
        return {}
    return Call(function, arguments)


def fill(target: Any, items: list[Any]) -> None:
    """target[key] = value for alternating keys and values; others than dictionaries keep them aside."""
    if isinstance(target, Call) and target.items is None:
        target.items = {}
    entries = target.items if isinstance(target, Call) else target
    if not isinstance(entries, dict) or len(items) % 2:
        raise ValueError("its pickle fills a dictionary that is none, or with half a pair")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if isinstance(key, str | bytes | Global | None) or (isinstance(key, int) and abs(key) < MAX_KEY):
            entries[key] = value


def extend(target: Any, values: list[Any]) -> None:
    """Append to a list; a call's result takes nothing."""
    if isinstance(target, list):
        target.extend(values)
