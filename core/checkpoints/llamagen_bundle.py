"""What goes with a transformer of LlamaGen's family: its tokenizer, which is another file, and what guides it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ..conditions.kinds import ConditionConfig
from ..priors.llama import LlamaConfig
from .controlar import is_controlar, plan_controlar
from .llamagen import QUERY, plan_any_order, plan_llama
from .reader import Checkpoint
from .taming import ModelPlan
from .tensor_names import Source

CLASS_TOKENIZER, TEXT_TOKENIZER = "vq_ds16_c2i", "vq_ds16_t2i"  # of the same shape, but other codes
ENDINGS = (".pt", ".safetensors")


class LlamaPlan(NamedTuple):
    """A prior to be, what guides it, and what controls its cells if it has that."""

    prior: ModelPlan
    condition: ConditionConfig
    control: ModelPlan | None = None


def plan_llamagen(checkpoint: Checkpoint, window: int | None = None) -> LlamaPlan:
    """How to make what a transformer's file holds: LlamaGen's, ControlAR's or RandAR's.

    Args:
        window: cells a side that it was trained on; None: as the file, or its name, says.
    Raises:
        ValueError: as `llamagen.plan_llama`.
    """
    source, control = Source(checkpoint, ""), None
    if is_controlar(source.shapes.keys()):
        prior, control = plan_controlar(source)
    elif QUERY in source.shapes:
        prior = plan_any_order(source, window)
    else:
        prior = plan_llama(source, window)
    return LlamaPlan(prior, condition_of(prior.config), control)


def condition_of(config: LlamaConfig) -> ConditionConfig:
    """What guides a released transformer; the last of its labels stands for none."""
    if config.feature_width:
        return ConditionConfig(kind="text")
    labels = config.prefix_rows - 1
    return ConditionConfig(kind="class", offset=config.codebook_size, labels=labels, unconditional=True)


def find_tokenizer(path: Path, condition: ConditionConfig, given: str | Path | None = None) -> Path:
    """The tokenizer's file: the one given, or that beside a transformer's or in the folder vqgan beside its folder.

    Nothing in the files tells the two tokenizers apart, so their names do.

    Raises:
        FileNotFoundError: none is given, and neither place has it.
        ValueError: the one given is called as the other one is.
    """
    name, other = TEXT_TOKENIZER, CLASS_TOKENIZER
    if condition.kind != "text":
        name, other = other, name
    if given is not None:
        if other in Path(given).name:
            raise ValueError(
                f"{Path(given).name} is by its name not the tokenizer of {path.name}, whose codes it would decode to "
                f"noise; give {name}.pt, or rename the file if it is that one"
            )
        return Path(given)
    for folder in (path.parent, path.parent / "vqgan", path.parent.parent / "vqgan"):
        for ending in ENDINGS:
            if (folder / f"{name}{ending}").is_file():
                return folder / f"{name}{ending}"
    raise FileNotFoundError(
        f"{path.name} needs its tokenizer, {name}.pt; put it beside it, or into the folder vqgan beside its folder"
    )
