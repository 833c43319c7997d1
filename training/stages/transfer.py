"""Weights to go on from, also for a prior whose codes were those of other VQGANs.

Codes are matched by where they stand: the old VQGANs and the new ones encode the same views, and a new code inherits
the rows of the old ones in whose place it is found, in the proportion in which it is.
"""

import logging

import torch
from accelerate import Accelerator
from torch import Tensor

from ...core.autoencoders.vqgan import VQGAN
from ...core.bundle_file import check_stages, load_prior, stage_fingerprints
from ...core.inspection import inspect_model
from ...core.loading import load
from ...core.priors.llama import Llama
from ...core.priors.snail.pixelsnail import PixelSnail
from ...core.priors.transformer import Transformer
from ..config.runs import PriorRun
from ..data.codes import CodeDataset, encode_views
from ..data.views import Views

EMBEDDING_AND_HEAD = {  # the weights with a row for each code
    Transformer: ("tok_emb.weight", "head.weight"),
    PixelSnail: ("tok_emb.weight", "head.weight"),
    Llama: ("tok_embeddings.weight", "output.weight"),
}
SMOOTHING = 0.05  # how often each code counts as seen in place of any other: one never seen inherits the mean

logger = logging.getLogger("tessera")


def starting_weights(
    run: PriorRun,
    train_set: CodeDataset,
    views: Views,
    vqgan: VQGAN,
    condition_vqgan: VQGAN | None,
    accelerator: Accelerator,
) -> dict[str, Tensor]:
    """The state dict of the prior in `run.start_from`. Of a bundle with other VQGANs than `run` names, the rows of
    codes are carried over; a prior alone must have learned the codes of the same ones, where it says which.

    Args:
        learned: the training codes, of which the first view is compared.
        views: the pictures they were made from.
    Raises:
        ValueError: the bundle makes another number of cells of a picture, or the prior has learned other codes.
    """
    contents = inspect_model(run.start_from)
    if contents.kind != "bundle":
        found = stage_fingerprints(vqgan, condition_vqgan)
        files = {"vqgan": run.vqgan, "condition_vqgan": run.condition.vqgan or run.vqgan}
        check_stages(f"start_from {run.start_from}", contents.stages, files, found)
        return load_prior(run.start_from).state_dict()
    old = load(run.start_from)
    before = (old.vqgan, old.condition_vqgan)
    if stage_fingerprints(*before) == stage_fingerprints(vqgan, condition_vqgan):
        return old.prior.state_dict()
    logger.info("%s has other codes: encoding one view of each picture with its VQGANs", run.start_from)
    for stage in before:
        if stage is not None:
            stage.to(accelerator.device)
    cells, condition = (codes[0].long() for codes in encode_views(views, 1, run, *before))
    new_cells, new_condition = train_set.cells[0].long(), train_set.condition[0].long()
    if (cells.shape, condition.shape) != (new_cells.shape, new_condition.shape):
        raise ValueError(
            f"start_from {run.start_from} makes {cells.shape[1]} cells and {condition.shape[1]} of the condition, the "
            f"VQGANs of this run {new_cells.shape[1]} and {new_condition.shape[1]}; start from one that fits, or anew"
        )
    state = old.prior.state_dict()
    tokens, logits = EMBEDDING_AND_HEAD[type(old.prior)]
    of_pictures = code_cooccurrence(cells, new_cells, codes_of(old.vqgan), codes_of(vqgan))
    rows = state[tokens].split(codes_of(old.vqgan))
    carried = [of_pictures @ rows[0], *rows[1:]]
    if condition_vqgan is not None:
        told = codes_of(old.condition_vqgan)
        rest, nothing = torch.cat(rows[1:]).tensor_split([told])  # and the row of no condition, if there is one
        carried[1:] = [code_cooccurrence(condition, new_condition, told, codes_of(condition_vqgan)) @ rest, nothing]
    return state | {tokens: torch.cat(carried), logits: of_pictures @ state[logits]}


def codes_of(vqgan: VQGAN) -> int:
    """How many there are."""
    return vqgan.config.codebook_size


def code_cooccurrence(old: Tensor, new: Tensor, old_codes: int, new_codes: int) -> Tensor:
    """How often each new code stands where each old one stood: [new_codes, old_codes], rows sum to 1.

    old, new: the codes of the same cells, int64 of one shape.
    """
    pairs = torch.bincount((new * old_codes + old).flatten(), minlength=new_codes * old_codes)
    counts = pairs.view(new_codes, old_codes).float()
    counts += SMOOTHING * counts.sum(0) / counts.sum()
    return counts / counts.sum(1, keepdim=True)
