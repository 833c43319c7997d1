"""Run configurations: YAML and --set into dataclasses."""

import contextlib
import dataclasses
import difflib
import math
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from ...core.storage.old_names import with_current_names


@dataclass(frozen=True)
class Written:
    """A value beside the text it was written as: a setting that is text takes the text as it stands, or a folder named
    2024-11-26 would be a date. Where YAML can't read the text, `value` is the error."""

    text: str
    value: Any


class TextLoader(yaml.SafeLoader):
    """Keeps the text of every scalar that YAML takes for something else than text."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            return super().construct_object(node, deep)
        try:
            value = super().construct_object(node, deep)
        except ValueError as error:  # a date such as 2024-13-01, a number of too many digits
            value = ValueError(f"{node.value[:40]} can't be read: {error}")
        return value if isinstance(value, str) else Written(node.value, value)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        mapping = super().construct_mapping(node, deep)
        return {key.text if isinstance(key, Written) else key: value for key, value in mapping.items()}


def load_config(kind: type, path: str | Path, overrides: list[str]) -> Any:
    """Read a YAML file into the run dataclass `kind`.

    Args:
        kind: VQGANRun or PriorRun.
        path: the YAML file.
        overrides: `key.key=value` texts laid over the file; the value in YAML, or plain text where the setting is text.
    Raises:
        ValueError: not YAML, an unknown key (with the nearest known ones), a wrong type or value.
        FileNotFoundError: no such file.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the YAML file of a run")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; training/configs holds examples to copy")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not readable YAML: {error}") from error
    tree = read_yaml(text, str(path))
    tree = {} if plain(tree) is None else tree
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator or not key:
            missing = "names no setting" if separator else "has no '='"
            raise ValueError(f"--set {override} {missing}; write --set loop.steps=500")
        set_in(tree, key.split("."), read_override(value, f"--set {override}"))
    return build(kind, tree, "")


def read_override(text: str, name: str) -> Written:
    """The value of a --set; quotes around the whole of it are YAML's and no part of the text."""
    try:
        value = read_yaml(text, name)
    except ValueError as error:
        value = error
    quoted = text[:1] in ("'", '"') and text[-1:] == text[:1] and isinstance(value, str)
    return Written(value if quoted else text, value.value if isinstance(value, Written) else value)


def read_yaml(text: str, name: str) -> Any:
    """What a YAML text holds; ValueError names where it came from and the place of the mistake."""
    try:
        return yaml.load(text, Loader=TextLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{name} is not readable YAML: {' '.join(str(error).split())}") from error


def set_in(tree: Any, keys: list[str], value: Any) -> None:
    """Set tree[k1][k2]... = value, making the branches on the way."""
    if not isinstance(tree, dict):
        return  # `build` says what is wrong with the whole file
    for key in keys[:-1]:
        tree[key] = plain(tree.get(key, {}))
        tree = tree[key]
        if not isinstance(tree, dict):
            raise ValueError(f"--set {'.'.join(keys)}: {key} is not a group of settings")
    tree[keys[-1]] = value


def plain(value: Any) -> Any:
    """What YAML made of a value; ValueError if nothing."""
    value = value.value if isinstance(value, Written) else value
    if isinstance(value, Exception):
        raise value
    return value


def build(kind: type, tree: Any, where: str) -> Any:
    """A dataclass of `kind` from nested dictionaries; `where` is the dotted path, for messages."""
    tree = plain(tree)
    if not isinstance(tree, dict):
        raise ValueError(f"{where or 'the file'} must be a group of `key: value` lines, found {tree!r}")
    tree, hints = with_current_names(kind, tree), typing.get_type_hints(kind)
    values = {}
    for key, value in tree.items():
        name = f"{where}.{key}" if where else str(key)
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=3, cutoff=0.4) or sorted(hints)
            raise ValueError(f"{name} is not a setting; did you mean {', '.join(near)}?")
        values[key] = convert(hints[key], value, name)
    required = [f.name for f in dataclasses.fields(kind) if is_required(f) and f.name not in values]
    if required:
        raise ValueError(f"{where or 'the file'} lacks {', '.join(required)}; add it")
    return kind(**values)


def is_required(item: dataclasses.Field) -> bool:
    """True for a dataclass field without a default."""
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def choose_kind(hint: types.UnionType, value: dict, name: str) -> tuple[Any, dict]:
    """Which of several dataclasses a group is, by its key `kind`, the first if it has none; and its other keys. Of one
    only, a group that may be left out, it is that."""
    groups = [one for one in typing.get_args(hint) if dataclasses.is_dataclass(one)]
    if len(groups) < 2:
        return (groups[0] if groups else hint), value
    kinds = {one.kind: one for one in groups}
    kind = plain(value.get("kind", groups[0].kind))
    if kind not in kinds:
        raise ValueError(f"{name}.kind is {kind!r}; choose one of {', '.join(kinds)}")
    return kinds[kind], {key: one for key, one in value.items() if key != "kind"}


def convert(hint: Any, value: Any, name: str) -> Any:
    """`value` as read from YAML in the type `hint`, or a ValueError that names the setting."""
    origin = typing.get_origin(hint)
    if hint is str and isinstance(value, Written):
        return value.text
    value = plain(value)
    if isinstance(hint, types.UnionType) and isinstance(value, dict):
        hint, value = choose_kind(hint, value, name)
    if dataclasses.is_dataclass(hint):
        return build(hint, value, name)
    if origin is Literal:
        # YAML reads a bare `no` as False
        value = "no" if value is False and "no" in typing.get_args(hint) else value
        if value not in typing.get_args(hint):
            raise ValueError(f"{name} is {value!r}; choose one of {', '.join(typing.get_args(hint))}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{name} is {value!r}; it must be a list such as [1, 2]")
        inner = typing.get_args(hint)
        if Ellipsis not in inner and len(value) != len(inner):
            raise ValueError(f"{name} has {len(value)} values; it needs {len(inner)}")
        return tuple(convert(inner[0], item, name) for item in value)
    if hint is float and isinstance(value, str | int) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            value = float(value)  # YAML 1.1 reads 5e-4 as text
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} is {value}; it must be a finite number")
    if isinstance(hint, types.UnionType):
        hint = typing.get_args(hint)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        given = "a group of settings" if isinstance(value, dict) else repr(value)
        raise ValueError(f"{name} is {given}; it must be of type {getattr(hint, '__name__', hint)}")
    return value
