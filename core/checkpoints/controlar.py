"""ControlAR's files (Apache-2.0): a whole LlamaGen-XL guided by text, with what looks at a control image.

DINOv2 has the names that transformers gave it in 2024. Its layers are counted in the file: edge_base and depth_base are
as large as with eleven of DINOv2-base's twelve, to the digit that their page prints. The multi-resolution files were
trained on a base grid of 48 cells a side, which is read off a tensor that is otherwise of no use.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from ..conditions.control import ControlARConfig, ControlAREncoder
from ..priors.llama import Llama, LlamaConfig
from ..storage.model_file import config_from
from .llamagen import part_of, plan_llama
from .taming import ModelPlan
from .tensor_names import Rules, Source, count, map_names

CONTROL = "condition_mlp.cap_proj.fc1.weight"  # a name that only these files have
GRID = "condition_mlp.uncond_embedding"  # all zeros; one row a cell
BASE_GRID, MULTI_GRID = 32, 48  # cells a side; the latter of the multi-resolution files
BLOCK = r"adapter\.model\.encoder\.layer\.(\d+)\."

DINO_RULES: Rules = [
    (r"adapter\.model\.embeddings\.cls_token", "adapter.class_token"),
    (r"adapter\.model\.embeddings\.mask_token", ""),  # of its training
    (r"adapter\.model\.embeddings\.position_embeddings", "adapter.positions"),
    (r"adapter\.model\.embeddings\.patch_embeddings\.projection\.(.+)", r"adapter.patch_embedding.\1"),
    (BLOCK + r"(norm[12])\.(.+)", r"adapter.blocks.\1.\2.\3"),
    (BLOCK + r"attention\.attention\.(query|key|value)\.(.+)", r"adapter.blocks.\1.\2.\3"),
    (BLOCK + r"attention\.output\.dense\.(.+)", r"adapter.blocks.\1.proj.\2"),
    (BLOCK + r"layer_scale([12])\.lambda1", r"adapter.blocks.\1.scale\2"),
    (BLOCK + r"mlp\.(fc[12])\.(.+)", r"adapter.blocks.\1.\2.\3"),
    (r"adapter\.model\.layernorm\.(.+)", r"adapter.norm.\1"),
]
CONTROL_RULES: Rules = [
    *DINO_RULES,
    (r"adapter_mlp\.(.+)", r"adapter_mlp.\1"),
    (r"condition_mlp\.cap_proj\.(.+)", r"condition_mlp.\1"),
    (r"condition_layers\.(\d+)\.(.+)", r"condition_layers.\1.\2"),
    (r"condition_embeddings\.weight|condition_mlp\.uncond_embedding", ""),  # never used, and zeros
]
OTHERS: Rules = [(r"(adapter|adapter_mlp|condition_mlp|condition_layers|condition_embeddings)\..+", "")]


def is_controlar(names: Collection[str]) -> bool:
    """True for the tensors of ControlAR."""
    return CONTROL in names


def plan_controlar(source: Source) -> tuple[ModelPlan, ModelPlan]:
    """How to make the prior and the control encoder of a file; ValueError where it is not such a file."""
    plan = plan_llama(source, grid_of(source), OTHERS)
    own = {name: shape for name, shape in source.shapes.items() if re.match(OTHERS[0][0], name)}
    names = map_names(
        source, [*CONTROL_RULES, (r"(layers|cls_embedding|tok_embeddings|norm|output)\..+|freqs_cis", "")]
    )
    parts = {ours: part_of(source, name) for name, ours in names.items()}
    layers = count(own, r"condition_layers\.(\d+)\.", source.name)
    third = plan.config.layers // layers
    prior = {**vars(plan.config), "control_layers": tuple(third * i for i in range(layers))}
    prior["whole_canvas"] = plan.config.window == MULTI_GRID or "_MR" in source.name
    dino = parts["adapter.norm.weight"].shape[0]
    values = {
        "width": plan.config.width,
        "layers": layers,
        "resize": "nearest" if re.search(r"canny|seg", source.name, re.IGNORECASE) else "bicubic",
        "dino_width": dino,
        "dino_layers": count(own, BLOCK, source.name),
        "dino_heads": dino // 64,
    }
    control = config_from(ControlARConfig, values, source.name)
    return (
        ModelPlan(Llama, config_from(LlamaConfig, prior, source.name), plan.parts),
        ModelPlan(ControlAREncoder, control, parts),
    )


def grid_of(source: Source) -> int:
    """Cells a side of the base grid: 32, or 48 of the multi-resolution files; their names tell where it is left out."""
    if GRID not in source.shapes:
        return MULTI_GRID if "_MR" in source.name else BASE_GRID
    rows = (*source.shapes[GRID], 0)[0]
    side = int(rows**0.5)
    if not side or side * side != rows:
        raise ValueError(f"{source.name} has a broken {GRID}; fetch it again")
    return side
