"""The appendix's orderings: the same transformer, its cells in another order."""

from __future__ import annotations

from dataclasses import replace

from .intervals import bootstrap
from .laboratory import Laboratory, nll_of_each
from .result import Claim, Published, Result

PUBLISHED = Published(
    "Orders (appendix)",
    ("order", "nats a code"),
    (
        ("row", "4.767"), ("z-curve", "4.810"), ("alternate", "4.812"), ("spiral-out", "4.889"), ("spiral-in", "4.901"),
        ("subsample", "5.015"),
    ),
    "ImageNet, equal budgets.",
)  # fmt: skip


def run(lab: Laboratory) -> Result:
    """Train the transformer once for each order, all else the same."""
    scale, (learned, held_out) = lab.scale, lab.codes("none")
    nll, rows = {}, []
    for order in scale.orders:
        model = replace(scale.transformer, order=order)
        run = lab.prior_run(f"orders/{order}", model, "none", learning_rate=scale.rates[-1])
        nll[order] = nll_of_each(lab.learn_prior(run, "none"), held_out, scale.batch)
        rows.append({"order": order, "nats a code": nll[order].mean().item()})
    claims = [
        Claim(f"Row by row is ahead of {order}.", "row minus it, nats a code", bootstrap(nll["row"] - nll[order]))
        for order in scale.orders
        if order != "row"
    ]
    setting = (
        f"{learned.cells.shape[1]} drawings to learn from, {len(held_out)} held out, {scale.pixels} pixels; "
        f"{scale.steps} steps of {scale.batch}, one seed, so that a small difference may be the seed's."
    )
    return Result("orders", setting, rows, claims)
