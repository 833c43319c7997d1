"""Edges as prefix codes, the paper's way, against edges added cell by cell (ControlAR's way), in equal time."""

from __future__ import annotations

import torch
from torch import Tensor

from ...core.bundle import Bundle
from ...core.conditions.kinds import ConditionConfig
from ...core.images.metrics import edge_agreement
from ..engine.plots import image_grid
from ..stages.figures import condition_of, edges_of, sample_images
from ..stages.prior import PriorTask
from .intervals import bootstrap
from .laboratory import Laboratory, nll_of_each, seconds_a_step, with_seed
from .priors import count_parameters, tried_rates, tuned_rate
from .result import Claim, Published, Result

PUBLISHED = Published(
    "Edges before or beside the codes (section 3.2)",
    ("system", "how edges guide"),
    (("the paper's", "their codes stand before the picture's"), ("ControlAR", "added to the stream cell by cell")),
    "The paper has the first way alone; the second is later work (arXiv 2410.02705).",
)
SHOWN = 8  # pictures in the sheet
BATCH = 16  # pictures sampled at a time


def run(lab: Laboratory) -> Result:
    """Train both for the same processor time; how likely held-out drawings are, and how well samples keep the lines."""
    scale, (learned, held_out) = lab.scale, lab.codes("edges")
    models = {"before": scale.transformer, "beside": scale.control}
    rates = {way: tuned_rate(lab, way_name(way), model, "edges") for way, model in models.items()}
    tasks = [
        PriorTask(lab.prior_run("timing", model, "edges"), learned, held_out, *lab.stages("edges"))
        for model in models.values()
    ]
    seconds = lab.measured_once(
        "control", lambda: dict(zip(models, seconds_a_step(tasks, held_out, scale.batch), strict=True))
    )
    steps = {"before": scale.steps, "beside": max(2, round(scale.steps * seconds["before"] / seconds["beside"]))}
    views = lab.pictures(scale.pixels)[1]
    lines = torch.stack([views[0, i]["edges"] for i in range(len(views))])
    rows, nll, f1, sheet = [], {}, {}, [lines[:SHOWN].expand(-1, 3, -1, -1)]
    for way, model in models.items():
        priors = []
        for seed in range(scale.seeds["edges"]):
            name = f"priors/edges-{way_name(way)}-{steps[way]}-{seed}"
            run = lab.prior_run(name, model, "edges", steps=steps[way], learning_rate=rates[way])
            priors.append(lab.learn_prior(with_seed(run, seed), "edges"))
        nll[way] = torch.stack([nll_of_each(prior, held_out, scale.batch) for prior in priors])  # [seeds, N]
        images = paint(lab, priors[0])
        f1[way] = edge_agreement(edges_of(images, views.config), lines)
        sheet.append(images[:SHOWN])
        each = nll[way].mean(1)
        rows.append(
            {"edges": way, "nll": each.mean().item(), "lowest seed": each.min().item(),
             "highest seed": each.max().item(), "line F1": f1[way].mean().item(),
             "parameters": count_parameters(priors[0]), "learning rate": rates[way], "steps": steps[way],
             "core seconds a step": seconds[way]}
        )  # fmt: skip
    lab.show("control", image_grid(torch.cat(sheet), min(SHOWN, len(lines))))
    claims = [
        Claim("Edges beside make codes likelier than edges before, in equal time.", "beside minus before, nats a code",
              bootstrap((nll["beside"] - nll["before"]).mean(0))),
        Claim("Edges beside are kept better.", "line F1, before minus beside", bootstrap(f1["before"] - f1["beside"])),
    ]  # fmt: skip
    setting = (
        f"{learned.cells.shape[1]} drawings to learn from, {len(held_out)} held out, {scale.pixels} pixels; equal "
        f"processor time, {scale.steps} steps of {scale.batch} with edges before, {scale.seeds['edges']} seeds. Lines "
        "are those of one sample of each held-out drawing's edges at temperature 1, of the first seed's prior. In the "
        f"sheet: the edges, samples of edges before, samples of edges beside.{tried_rates(scale)}"
    )
    return Result("control", setting, rows, claims)


def way_name(way: str) -> str:
    """Of its runs; edges before are the transformer of the comparison of priors."""
    return "transformer" if way == "before" else "control"


@torch.inference_mode()
def paint(lab: Laboratory, prior: torch.nn.Module) -> Tensor:
    """A sample of each held-out drawing's edges, [N, 3, H, W] in -1..1."""
    (vqgan, edges), held_out = lab.stages("edges"), lab.codes("edges")[1]
    bundle = Bundle(vqgan, prior, ConditionConfig(kind="edges", offset=vqgan.config.codebook_size), edges)
    made = []
    for start in range(0, len(held_out), BATCH):
        chosen = list(range(start, min(start + BATCH, len(held_out))))
        canvas = sample_images(bundle, condition_of(bundle, held_out, chosen), len(chosen), start, 1.0)
        made.append(bundle.decode(canvas))
    return torch.cat(made)
