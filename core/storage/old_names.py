"""Configuration keys that were renamed, so that model files and YAML of earlier versions still open.

The only place that knows an old name. Keys are dotted paths below the dataclass; None is a setting that is gone.
"""

import copy
from typing import Any

RENAMED: dict[str, dict[str, str | None]] = {
    "VQGANConfig": {
        "fold": "patch_size",
        "code_width": "code_dim",
        "commitment_weight": None,
        "codebook_weight": None,
        "ema_decay": None,
        "kl_weight": None,
    },
    "VQGANRun": {
        "model.commitment_weight": "loss.quantizer.commitment_weight",
        "model.codebook_weight": "loss.quantizer.codebook_weight",
        "model.ema_decay": "loss.quantizer.ema_decay",
        "model.kl_weight": "loss.quantizer.kl_weight",
    },
    "ConditionConfig": {"free": "unconditional"},
    "DataConfig": {"neighbours": "neighbors"},
    "PriorRun": {
        "keep": "pkeep",
        "free.share": "condition.dropout",
        "condition_dropout": "condition.dropout",
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
    tree = copy.deepcopy(values)
    for old, new in renamed.items():
        *groups, leaf = old.split(".")
        if leaf not in (branch := _branch(tree, groups)):
            continue
        value = branch.pop(leaf)
        if groups and not branch:
            del tree[groups[0]]
        if new is not None:
            *groups, leaf = new.split(".")
            if leaf in (target := _branch(tree, groups)):
                raise ValueError(f"{old} is the old name of {new}, and both are given; leave out {old}")
            target[leaf] = value
            _attach(tree, groups, target)
    return tree


def _branch(tree: dict, groups: list[str]) -> dict:
    """The mapping below `groups`, an empty one where there is none."""
    for group in groups:
        below = tree.get(group)
        tree = below if isinstance(below, dict) else {}
    return tree


def _attach(tree: dict, groups: list[str], branch: dict) -> None:
    """Put a mapping in its place below `groups`, making the ones on the way."""
    for group in groups[:-1]:
        tree = tree.setdefault(group, {})
    if groups:
        tree[groups[-1]] = branch
