"""The original's orders of cells: their numbers, and priors that learn and draw by them."""

import pytest
import torch

from tessera.core.canvas.canvas import Canvas
from tessera.core.conditions.base import StartToken
from tessera.core.prefix import Prefix
from tessera.core.priors.orders import ORDERS, cells_in_order, order_of_cells
from tessera.core.priors.transformer import Transformer, TransformerConfig
from tessera.core.sampling.likelihood import canvas_nll
from tessera.core.sampling.loop import sample
from tessera.core.sampling.noise import cell_keys, gumbel
from tessera.core.sampling.settings import SamplingSettings

TINY = {"layers": 2, "width": 16, "heads": 2, "codebook_size": 12, "vocab_size": 13, "prefix_length": 1, "window": 4}


def prior_of(order: str) -> Transformer:
    torch.manual_seed(0)
    prior = Transformer(TransformerConfig(**TINY, order=order))
    for weights in prior.parameters():
        if weights.ndim > 1:
            torch.nn.init.normal_(weights, std=0.3)
    return prior.eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("order", "cells"),
    [
        ("column", [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15]),
        ("z-curve", [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]),
        ("spiral-out", [9, 5, 6, 10, 14, 13, 12, 8, 4, 0, 1, 2, 3, 7, 11, 15]),
        ("alternate", [0, 1, 2, 3, 7, 6, 5, 4, 8, 9, 10, 11, 15, 14, 13, 12]),
        ("subsample", [0, 2, 8, 10, 1, 3, 9, 11, 4, 6, 12, 14, 5, 7, 13, 15]),
    ],
)
def test_orders_are_the_originals(order, cells):
    assert list(cells_in_order(order, 4)) == cells
    assert order_of_cells(cells, 4) == order


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_names_each_cell_once(order):
    assert sorted(cells_in_order(order, 16)) == list(range(256))
    assert order_of_cells(list(cells_in_order(order, 16)), 16) == order


def test_a_cell_sees_those_before_it_in_the_order_and_no_other():
    prior, order = prior_of("spiral-out"), cells_in_order("spiral-out", 4)
    cells = torch.randint(12, (1, 16), generator=torch.Generator().manual_seed(1))
    changed = cells.clone()
    changed[0, order[6]] = (cells[0, order[6]] + 1) % 12
    prefix = torch.tensor([[12]])
    differs = (prior(prefix, cells) != prior(prefix, changed)).any(2)[0]
    assert not differs[list(order[:7])].any()
    assert differs[list(order[7:])].all()


def test_completion_draws_unknown_cells_in_the_order():
    prior, order, seed = prior_of("z-curve"), cells_in_order("z-curve", 4), 5
    canvas = Canvas.empty(2, 4, 4)
    canvas.known[:, :, 0] = True
    drawn = sample(prior, StartToken(12), canvas, seed, SamplingSettings(temperature=0.8)).indices.flatten(1)
    noise = gumbel(cell_keys(seed, 2, 4, 4).flatten(2), 12)  # [B, 16, K]
    codes = canvas.indices.flatten(1).clone()
    for place, cell in enumerate(order):
        if cell % 4:
            seen = codes[:, list(order[:place])]
            logits, _ = prior.start(Prefix(torch.tensor([[12]])), seen)
            codes[:, cell] = (logits[:, 0] / 0.8 + noise[:, cell]).argmax(1)
    assert torch.equal(drawn, codes)


def test_likelihood_is_that_of_the_order():
    prior = prior_of("subsample")
    cells = torch.randint(12, (2, 4, 4), generator=torch.Generator().manual_seed(2))
    logits = prior(torch.tensor([[12], [12]]), cells.flatten(1)).log_softmax(2)
    wanted = -logits.gather(2, cells.flatten(1)[..., None])[..., 0].view(2, 4, 4)
    torch.testing.assert_close(canvas_nll(prior, StartToken(12), Canvas.filled(cells)), wanted)


def test_a_canvas_of_another_size_is_refused_and_so_is_an_unknown_order():
    with pytest.raises(ValueError, match=r"fits 4x4 of them, unwrapped; the canvas has 4x6"):
        sample(prior_of("random"), StartToken(12), Canvas.empty(1, 4, 6), 0, SamplingSettings())
    with pytest.raises(ValueError, match="order 'up' is unknown"):
        TransformerConfig(**TINY, order="up")
