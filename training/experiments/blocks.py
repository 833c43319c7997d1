"""The paper's transformer against Llama's blocks with rotary positions, each by AdamW and by Muon, in equal time."""

from __future__ import annotations

import torch

from ..stages.prior import PriorTask
from .intervals import bootstrap
from .laboratory import Laboratory, nll_of_each, seconds_a_step, with_seed
from .priors import count_parameters, tried_rates, tuned_rate
from .result import Claim, Published, Result

PUBLISHED = Published(
    "Blocks and optimizers",
    ("system", "positions", "norm, activation"),
    (
        ("the paper's", "learned, added at the door", "LayerNorm, GELU"),
        ("Llama's", "rotary in two dimensions, in every attention", "RMSNorm, SwiGLU"),
    ),
    "The paper has the first alone, by Adam; the second is LlamaGen's (arXiv 2406.06525).",
)
SYSTEMS = ("transformer, AdamW", "transformer, Muon", "Llama, AdamW", "Llama, Muon")


def run(lab: Laboratory) -> Result:
    """Train all four, without a condition, for the same processor time."""
    scale, (learned, held_out) = lab.scale, lab.codes("none")
    models = {"transformer": scale.transformer, "Llama": scale.llama}
    parts = {system: system.split(", ") for system in SYSTEMS}
    plans = {system: (models[blocks], optimizer.lower()) for system, (blocks, optimizer) in parts.items()}
    names = {system: f"{model.kind}-{optimizer}" for system, (model, optimizer) in plans.items()}
    rates = {system: tuned_rate(lab, names[system], plan[0], "none", plan[1]) for system, plan in plans.items()}
    tasks = [
        PriorTask(lab.prior_run("timing", model, "none", optimizer), learned, held_out, *lab.stages("none"))
        for model, optimizer in plans.values()
    ]
    seconds = lab.measured_once(
        "blocks", lambda: dict(zip(SYSTEMS, seconds_a_step(tasks, held_out, scale.batch), strict=True))
    )
    rows, nll = [], {}
    for system, (model, optimizer) in plans.items():
        steps, of_seeds = max(2, round(scale.steps * seconds[SYSTEMS[0]] / seconds[system])), []
        for seed in range(scale.seeds["none"]):
            name = f"priors/none-{names[system]}-{steps}-{seed}"
            run = lab.prior_run(name, model, "none", optimizer, steps=steps, learning_rate=rates[system])
            prior = lab.learn_prior(with_seed(run, seed), "none")
            of_seeds.append(nll_of_each(prior, held_out, scale.batch))
        nll[system] = torch.stack(of_seeds)  # [seeds, N]
        each = nll[system].mean(1)
        rows.append(
            {"system": system, "nll": each.mean().item(), "lowest seed": each.min().item(),
             "highest seed": each.max().item(), "parameters": count_parameters(prior),
             "learning rate": rates[system], "steps": steps, "core seconds a step": seconds[system]}
        )  # fmt: skip
    claims = [
        Claim(f"{words}.", f"{ahead} minus {behind}, nats a code", bootstrap((nll[ahead] - nll[behind]).mean(0)))
        for words, ahead, behind in (
            ("Llama's blocks are ahead of the paper's, by AdamW", "Llama, AdamW", "transformer, AdamW"),
            ("Llama's blocks are ahead of the paper's, by Muon", "Llama, Muon", "transformer, Muon"),
            ("Muon is ahead of AdamW, for the paper's blocks", "transformer, Muon", "transformer, AdamW"),
            ("Muon is ahead of AdamW, for Llama's", "Llama, Muon", "Llama, AdamW"),
        )
    ]
    setting = (
        f"{learned.cells.shape[1]} drawings to learn from in {learned.cells.shape[0]} views, {len(held_out)} held out, "
        f"{scale.pixels} pixels; equal processor time, {scale.steps} steps of {scale.batch} of the first system, "
        f"{scale.seeds['none']} seeds, no condition. Muon turns the matrices of the blocks at ten times the learning "
        f"rate, AdamW the rest.{tried_rates(scale)}"
    )
    return Result("blocks", setting, rows, claims)
