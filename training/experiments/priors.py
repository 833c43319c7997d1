"""Table 2: the transformer against PixelSNAIL, at equal parameters, after equal steps and after equal time."""

from __future__ import annotations

import torch
from torch import nn

from ..config.runs import Optimizer, PriorModelConfig
from ..stages.prior import PriorTask
from .intervals import bootstrap
from .laboratory import Laboratory, nll_of_each, seconds_a_step, with_seed
from .result import Claim, Published, Result
from .scale import Scale

PUBLISHED = Published(
    "Priors (table 2)",
    ("data, size", "transformer, equal steps", "transformer, equal time", "PixelSNAIL"),
    (
        ("RIN, 85M", "4.78", "4.84", "4.96"),
        ("LSUN-CT, 310M", "4.63", "4.69", "4.89"),
        ("IN, 310M", "4.78", "4.83", "4.96"),
        ("D-RIN, 180M", "4.70", "4.78", "4.88"),
        ("S-FLCKR, 310M", "4.49", "4.57", "4.64"),
    ),
    "Nats a code on validation pictures; lower is better. Sets of a hundred thousand pictures to millions.",
)


def run(lab: Laboratory) -> Result:
    """Train both priors under each condition, and compare them drawing by drawing."""
    rows, claims = [], []
    for condition in lab.scale.conditions:
        found = compare(lab, condition)
        rows += found[0]
        claims += found[1]
    learned, held_out = lab.codes("none")
    side = round(held_out.cells.shape[-1] ** 0.5)
    seeds = ", ".join(f"{lab.scale.seeds[name]} with condition {name}" for name in lab.scale.conditions)
    setting = (
        f"{learned.cells.shape[1]} drawings to learn from in {learned.cells.shape[0]} views, {len(held_out)} held out; "
        f"{lab.scale.pixels} pixels, {side}x{side} codes; {lab.scale.steps} steps of {lab.scale.batch}, "
        f"seeds: {seeds}. Figures are means over seeds, in nats a code.{tried_rates(lab.scale)}"
    )
    return Result("priors", setting, rows, claims)


def compare(lab: Laboratory, condition: str) -> tuple[list[dict], list[Claim]]:
    """Rows and claims of one condition."""
    scale, (_, held_out) = lab.scale, lab.codes(condition)
    models = {"transformer": scale.transformer, "PixelSNAIL": scale.pixelsnail[condition]}
    rates = {name: tuned_rate(lab, model.kind, model, condition) for name, model in models.items()}
    tasks = [
        PriorTask(lab.prior_run("timing", model, condition), *lab.codes(condition), *lab.stages(condition))
        for model in models.values()
    ]
    seconds = lab.measured_once(
        f"priors-{condition}", lambda: dict(zip(models, seconds_a_step(tasks, held_out, scale.batch), strict=True))
    )
    steps = {
        "transformer, equal steps": scale.steps,
        "transformer, equal time": max(2, round(scale.steps * seconds["PixelSNAIL"] / seconds["transformer"])),
        "PixelSNAIL": scale.steps,
    }
    rows, nll = [], {}
    for system, number in steps.items():
        kind = system.split(",")[0]
        of_seeds = []
        for seed in range(scale.seeds[condition]):
            name = f"priors/{condition}-{kind}-{number}-{seed}"
            run = lab.prior_run(name, models[kind], condition, steps=number, learning_rate=rates[kind])
            prior = lab.learn_prior(with_seed(run, seed), condition)
            of_seeds.append(nll_of_each(prior, held_out, scale.batch))
        nll[system] = torch.stack(of_seeds)  # [seeds, N]
        each = nll[system].mean(1)
        rows.append(
            {"condition": condition, "system": system, "nll": each.mean().item(),
             "lowest seed": each.min().item(), "highest seed": each.max().item(),
             "parameters": count_parameters(prior), "without embedding and head": count_parameters(prior, inner=True),
             "learning rate": rates[kind], "steps": number, "core seconds a step": seconds[kind]}
        )  # fmt: skip
    claims = []
    for system in ("transformer, equal steps", "transformer, equal time"):
        apart = bootstrap((nll[system] - nll["PixelSNAIL"]).mean(0))
        words = f"The transformer is ahead of PixelSNAIL ({system.split(', ')[1]}, condition {condition})."
        claims.append(Claim(words, "transformer minus PixelSNAIL, nats a code", apart))
    return rows, claims


def tuned_rate(
    lab: Laboratory, system: str, model: PriorModelConfig, condition: str, optimizer: Optimizer = "adamw"
) -> float:
    """The learning rate that leaves the lowest likelihood loss after a short run of what is called `system`."""
    scale, found = lab.scale, {}
    if len(scale.rates) == 1:
        return scale.rates[0]
    _, held_out = lab.codes(condition)
    for rate in scale.rates:
        name = f"priors/{condition}-{system}-rate-{rate:g}"
        run = lab.prior_run(name, model, condition, optimizer, steps=scale.tuning, learning_rate=rate)
        found[rate] = nll_of_each(lab.learn_prior(run, condition), held_out, scale.batch).mean().item()
    return min(found, key=found.get)


def tried_rates(scale: Scale) -> str:
    """What a reader should know about the learning rates, after a space."""
    if len(scale.rates) == 1:
        return ""
    return f" Learning rates: the best of {', '.join(f'{r:g}' for r in scale.rates)} after {scale.tuning} steps."


def count_parameters(prior: nn.Module, inner: bool = False) -> int:
    """All of them, or those of neither embeddings nor the head."""
    outer = ("tok_emb", "pos_emb", "head") if inner else ()
    return sum(p.numel() for name, p in prior.named_parameters() if not name.startswith(outer))
