"""Configuration keys that were renamed, so that model files and YAML of earlier versions still open.

The only place that knows an old name. Keys are dotted paths below the dataclass; None is a setting that is gone.
"""

from typing import Any

RENAMED: dict[str, dict[str, str | None]] = {
    "VQGANConfig": {"fold": "patch_size", "code_width": "code_dim"},
    "ConditionConfig": {"free": "unconditional"},
    "DataConfig": {"neighbours": "neighbors"},
    "PriorRun": {
        "keep": "pkeep",
        "free.share": "condition_dropout",
        "free.zoom": "unconditional.zoom",
        "free.shift": "unconditional.shift",
    },
}


def with_current_names(kind: type, values: Any) -> Any:
    """The values of a config dataclass with today's keys; anything but a mapping is returned as it is.

    Raises:
        ValueError: a setting given under its old and its new name.
    """
    renamed = RENAMED.get(kind.__name__, {})
    if not isinstance(values, dict):
        return values
    tree = {key: dict(value) if isinstance(value, dict) else value for key, value in values.items()}
    for old, new in renamed.items():
        *groups, leaf = old.split(".")
        if not isinstance(branch := _branch(tree, groups), dict) or leaf not in branch:
            continue
        value = branch.pop(leaf)
        if groups and not branch:
            del tree[groups[0]]
        if new is not None:
            *groups, leaf = new.split(".")
            target = tree.setdefault(groups[0], {}) if groups else tree
            if leaf in target:
                raise ValueError(f"{old} is the old name of {new}, and both are given; leave out {old}")
            target[leaf] = value
    return tree


def _branch(tree: dict, groups: list[str]) -> Any:
    """The mapping of one group of settings, or of all."""
    return tree.get(groups[0]) if groups else tree
