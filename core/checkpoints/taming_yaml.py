"""The YAML beside a released checkpoint: where it is, and what it says that the tensors don't.

It is read as plain data. Its `target:` entries are classes by name; they are compared with the names known
here and never imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from ..storage.door import brief, existing_file

MAX_YAML_BYTES = 256 * 2**10  # bytes; released ones have 2 to 10 thousand
MAX_DEPTH = 50  # levels of nesting
MAX_DIGITS = 40  # digits
NUMBERS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}
LOOK_ALIKES = {"Open_MAGVIT2": "Open-MAGVIT2"}  # word of a class's name -> the family
IBQ = "src.IBQ.models.ibqgan.IBQ"
ModelKind = Literal["vqgan", "transformer"]
TARGETS: dict[ModelKind, set[str]] = {
    "vqgan": {
        "taming.models.vqgan.VQModel", "taming.models.vqgan.GumbelVQ", "taming.models.vqgan.VQSegmentationModel",
        "taming.models.vqgan.VQNoDiscModel", "taming.models.vqgan.EMAVQ",
        "ldm.models.autoencoder.VQModel", "ldm.models.autoencoder.VQModelInterface", IBQ,
    },
    "transformer": {"taming.models.cond_transformer.Net2NetTransformer"},
}  # fmt: skip
CONDITION_OF_TARGET: dict[str, str] = {
    "taming.modules.misc.coord.CoordStage": "coordinates",
    "taming.modules.util.Labelator": "class",
    "taming.modules.util.SOSProvider": "none",
    "taming.models.dummy_cond_stage.DummyCondStage": "layout",
}
CONDITION_OF_KEY: dict[str, str] = {
    "depth": "depth", "segmentation": "segmentation", "edge": "edges", "edges": "edges", "coord": "coordinates",
    "class_label": "class", "objects_bbox": "layout",
}  # fmt: skip


class ModelYaml(NamedTuple):
    """A released YAML's `model` entry."""

    file: str  # its name
    target: str
    params: dict[str, Any]


class PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases, which a small file can make grow without limit, and not too deep."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it uses aliases, which no released file does")
        if self.depth > MAX_DEPTH:
            raise yaml.YAMLError(f"it is nested more than {MAX_DEPTH} levels deep")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(node, yaml.ScalarNode) and node.tag in NUMBERS and len(node.value) > MAX_DIGITS:
            raise yaml.YAMLError(f"it has a number of {len(node.value)} digits")
        return node


def read_yaml(path: str | Path) -> ModelYaml:
    """A released YAML's model.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not plain YAML, or a target that is not known here.
    """
    path = existing_file(path, "the YAML file that came with the checkpoint")
    if path.stat().st_size > MAX_YAML_BYTES:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes, too many for a model's YAML; choose another")
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), PlainLoader)
    except (yaml.YAMLError, ValueError, OSError, RecursionError) as error:  # ValueError: a date or number that is none
        raise ValueError(f"{path.name} is not plain YAML: {brief(error, 200)}; fetch it again") from error
    model = branch(tree, "model") or branch(tree)
    refuse_look_alike(path.name, model.get("target"), model.get("class_path"))
    target = model.get("target") or model.get("class_path")  # as Lightning's own command line writes it
    params = "params" if "params" in model else "init_args"
    if not isinstance(target, str) or not isinstance(model.get(params), dict):
        raise ValueError(f"{path.name} describes no model; give the YAML that came with the checkpoint")
    if not any(target in known for known in TARGETS.values()):
        raise ValueError(f"{path.name} has target {target[:80]!r}, which is not known here; choose another checkpoint")
    return ModelYaml(path.name, target, branch(model, params))


def refuse_look_alike(name: str, *classes: Any) -> None:
    """ValueError for a YAML of a family whose tensors have the names of one that is known, but not its meaning."""
    for said in classes:
        for word, family in LOOK_ALIKES.items():
            if isinstance(said, str) and f".{word}." in said[:200]:
                raise ValueError(
                    f"{name} describes a model of {family}, which quantizes otherwise; it is not known here"
                )


def branch(tree: Any, *keys: str) -> dict[str, Any]:
    """The dictionary at tree[k1][k2]...; empty if there is none."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree if isinstance(tree, dict) else {}


def find_yaml(checkpoint: Path, kind: ModelKind) -> ModelYaml | None:
    """The YAML beside a checkpoint, by the usual names; None if there is none.

    `NAME.yaml` belongs to `NAME.ckpt` alone. `model.yaml`, `config.yaml` and `*-project.yaml`, beside it or in
    `configs` there or one folder up (`logs/NAME/checkpoints/last.ckpt`), may belong to another checkpoint; those
    of another `kind` are passed over.

    Raises:
        ValueError: as `read_yaml`.
    """
    own = checkpoint.with_suffix(".yaml")
    if own.is_file():
        return read_yaml(own)
    folders = [checkpoint.parent, checkpoint.parent / "configs"]
    if checkpoint.parent.name in ("checkpoints", "ckpts"):
        folders.append(checkpoint.parent.parent / "configs")
    for folder in folders:
        for path in [folder / "model.yaml", folder / "config.yaml", *sorted(folder.glob("*-project.yaml"))]:
            if path.is_file() and (found := read_yaml(path)).target in TARGETS[kind]:
                return found
    return None


def kind_of_yaml(model: ModelYaml) -> str | None:
    """What the YAML says about a transformer's condition; None if it says nothing.

    Raises:
        ValueError: a `target` that is not known here.
    """
    stage = model.params.get("cond_stage_config")
    if model.params.get("unconditional") is True or stage == "__is_unconditional__":
        return "none"
    target = branch(stage).get("target")
    if isinstance(target, str):
        if target in CONDITION_OF_TARGET:
            return CONDITION_OF_TARGET[target]
        if target not in TARGETS["vqgan"]:
            raise ValueError(f"{model.file}: cond_stage_config has target {target[:80]!r}, which is not known here")
        if target == "taming.models.vqgan.VQSegmentationModel":
            return "segmentation"
    key = model.params.get("cond_stage_key", "depth")  # the original's default
    return CONDITION_OF_KEY.get(key) if isinstance(key, str) else None


def heads_of_yaml(model: ModelYaml) -> int | None:
    """The transformer's attention heads; 8, the original's default, where a transformer is described without."""
    described = branch(model.params, "transformer_config")
    heads = branch(described, "params").get("n_head", 8) if described else None
    if heads is not None and (type(heads) is not int or heads < 1):
        raise ValueError(f"{model.file}: n_head is no number of heads; give the YAML that came with the checkpoint")
    return heads


def start_token(model: ModelYaml) -> int:
    """The token that an unconditional transformer begins with."""
    stage = branch(model.params, "cond_stage_config", "params")
    token = stage.get("sos_token", model.params.get("sos_token", 0))
    if type(token) is not int or token < 0:
        raise ValueError(f"{model.file}: sos_token is no token; give the YAML that came with the checkpoint")
    return token


def check_agreement(model: ModelYaml, said: dict[str, Any], found: dict[str, int], checkpoint: str) -> None:
    """Refuse a YAML that speaks of another model: `said` in it against what was `found` in the tensors.

    Raises:
        ValueError: names the file, the entry and both values.
    """
    for key, value in found.items():
        if isinstance(said.get(key), int) and said[key] != value:
            raise ValueError(
                f"{model.file} says {key} is {said[key]}, {checkpoint} has {value}; put the checkpoint's own YAML "
                f"beside it as {Path(checkpoint).stem}.yaml"
            )
