"""Names that other programs put around those of a model: DataParallel's, torch.compile's, and those of a holder.

module.encoder.conv_in.weight, encoder._orig_mod.conv_in.weight, generator.encoder.conv_in.weight
"""

from __future__ import annotations

import re

WRAPPER = re.compile(r"(?:^|(?<=\.))(?:module|_orig_mod|_forward_module|_fsdp_wrapped_module)\.")
ANCHORS = ("transformer.tok_emb.weight", "first_stage_model.encoder.conv_in.weight", "encoder.conv_in.weight")
PREFERRED = ("ema", "params_ema", "generator_ema", "generator", "g", "vqgan", "vqmodel", "vqvae", "model", "net")
OWN = ("first_stage_model.", "cond_stage_model.")  # holders that the model itself has


def unwrapped(names: list[str]) -> dict[str, str]:
    """The names as the model gave them -> those in the file. Of several models in one file the averaged one counts;
    what lies outside of a holder is left out.

    Raises:
        ValueError: two tensors would have one name.
    """
    bare = {WRAPPER.sub("", name): name for name in names}
    if len(bare) < len(names):
        raise ValueError("two of its tensors have one name once `module.` is taken off")
    holder = holder_of(list(bare))
    return {name.removeprefix(holder): stored for name, stored in bare.items() if name.startswith(holder)}


def holder_of(names: list[str]) -> str:
    """What stands before each name of the model, such as "generator."; "" for nothing."""
    for anchor in ANCHORS:
        found = [name.removesuffix(anchor) for name in names if name == anchor or name.endswith(f".{anchor}")]
        if "" in found or any(holder in OWN for holder in found):
            return ""
        if found:
            return min(found, key=preference)
    return ""


def preference(holder: str) -> tuple[int, int]:
    """Lower for a holder that is rather taken."""
    last = holder.rstrip(".").rpartition(".")[2]
    return PREFERRED.index(last) if last in PREFERRED else len(PREFERRED), len(holder)
