"""Pickles read as data: what a checkpoint's pickle says, without calling or importing anything it names.

A pickle is a program that builds objects. This interpreter runs only its data part: containers, numbers and
texts become themselves; a class or function is a `Global`, its name; calling one is a `Call`, a record of
what would have been called with what. So no file, however hostile, can make anything happen.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple


class Global(NamedTuple):
    """A class or function by name, such as `torch._utils _rebuild_tensor_v2`."""

    module: str
    name: str


@dataclass(eq=False)
class Call:
    """An object that the pickle would have made by calling `function(*arguments)`."""

    function: Any
    arguments: Any
    state: Any = None  # what it would have been given afterwards
    items: dict[Any, Any] = field(default_factory=dict)  # for objects filled like a dictionary


class Persistent(NamedTuple):
    """A reference to something outside the pickle; in checkpoints, a tensor's storage."""

    identity: Any


class Mark:
    """Where a group of stack entries begins."""


def read_pickle(file: BinaryIO) -> Any:
    """The object a pickle describes, as data; reads up to its end mark and not beyond.

    `collections.OrderedDict` becomes a dict; dictionaries lose entries whose keys can't be hashed.

    Raises:
        ValueError: broken, or using what no checkpoint uses.
    """
    try:
        return interpret(file)
    except ValueError:
        raise
    except (IndexError, KeyError, TypeError, AttributeError, EOFError, RecursionError, OverflowError) as error:
        raise ValueError(f"its pickle is broken ({type(error).__name__}: {error})") from error


def interpret(file: BinaryIO) -> Any:
    """Run the data part of the pickle machine."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        items = []
        while not isinstance(item := stack.pop(), Mark):
            items.append(item)
        return items[::-1]

    for opcode, argument, _ in pickletools.genops(file):
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case "MARK":
                stack.append(Mark())
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
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_SET":
                stack.append([])
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
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(Global(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(Global(str(module), str(name)))
            case "INST":
                stack.append(called(Global(*argument.split(" ", 1)), tuple(since_mark())))
            case "OBJ":
                items = since_mark()
                stack.append(called(items[0], tuple(items[1:])))
            case "REDUCE" | "NEWOBJ":
                arguments, function = stack.pop(), stack.pop()
                stack.append(called(function, arguments))
            case "NEWOBJ_EX":
                keywords, arguments, function = stack.pop(), stack.pop(), stack.pop()
                stack.append(called(function, (arguments, keywords)))
            case "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], Call):
                    stack[-1].state = state
            case "PERSID":
                stack.append(Persistent(argument))
            case "BINPERSID":
                stack.append(Persistent(stack.pop()))
            case name if name in PLAIN:
                stack.append(argument)
            case name:
                raise ValueError(f"its pickle uses {name}, which no checkpoint needs")
    raise ValueError("its pickle has no end")


# opcodes whose argument is the value itself
PLAIN = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip


def called(function: Any, arguments: Any) -> Any:
    """The record of a call; an ordered dictionary is the one thing made for real, as a dict."""
    if function == Global("collections", "OrderedDict") and not arguments:
        return {}
    return Call(function, arguments)


def fill(target: Any, items: list[Any]) -> None:
    """target[key] = value for alternating keys and values; others than dictionaries keep them aside."""
    entries = target.items if isinstance(target, Call) else target
    if not isinstance(entries, dict):
        raise ValueError("its pickle fills something that is not a dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if isinstance(key, str | int | float | bytes | Global | None):
            entries[key] = value


def extend(target: Any, values: list[Any]) -> None:
    """Append to a list; a call's result takes nothing."""
    if isinstance(target, list):
        target.extend(values)
