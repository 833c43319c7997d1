"""A transformer whose condition is added cell by cell: three ways through it agree, and it looks where it should."""

import pytest
import torch

from tessera.core.canvas.canvas import Canvas
from tessera.core.conditions.base import TokenCondition
from tessera.core.prefix import Prefix
from tessera.core.priors.transformer import Transformer, TransformerConfig
from tessera.core.sampling.loop import sample
from tessera.core.sampling.settings import SamplingSettings

TINY = {
    "layers": 2, "width": 16, "heads": 2, "codebook_size": 12, "vocab_size": 20, "prefix_length": 16, "window": 4,
    "control": True,
}  # fmt: skip


def prior_of(order: str = "row") -> Transformer:
    torch.manual_seed(0)
    prior = Transformer(TransformerConfig(**TINY, order=order))
    for weights in prior.parameters():
        if weights.ndim > 1:
            torch.nn.init.normal_(weights, std=0.3)
    return prior.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def prefixes() -> torch.Tensor:
    return torch.randint(12, 20, (2, 16), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("order", ["row", "spiral-out"])
def test_all_ways_through_it_give_the_same_logits(order, prefixes):
    prior = prior_of(order)
    cells = torch.randint(12, (4, 16), generator=torch.Generator().manual_seed(2))
    whole = prior(prefixes.repeat_interleave(2, 0), cells)
    way = torch.arange(16) if prior.order is None else torch.tensor(prior.order)
    whole, cells = whole[:, way], cells[:, way]
    first, cache = prior.start(Prefix(prefixes), cells[:, :5], last=2, room=16)  # two sequences a prefix
    torch.testing.assert_close(first, whole[:, 4:6])
    decoder = prior.decoder()
    torch.testing.assert_close(decoder(cells[:, 5:6], cache), whole[:, 6:7])
    torch.testing.assert_close(decoder(cells[:, 6:9], cache), whole[:, 7:10])
    cache.rollback(6)
    torch.testing.assert_close(decoder(cells[:, 6:9], cache, 1), whole[:, 9:10])
    shared = prior(prefixes[:1], cells[:2].index_select(1, way.argsort()))[:, way]
    torch.testing.assert_close(shared, prior(prefixes[:1].expand(2, -1), cells[:2][:, way.argsort()])[:, way])


def test_what_is_around_a_cell_is_seen_from_the_beginning_and_later_codes_are_not(prefixes):
    prior = prior_of()
    cells = torch.randint(12, (1, 16), generator=torch.Generator().manual_seed(3))
    below = prefixes[:1].clone()
    below[0, 8] = 12 + (below[0, 8] - 11) % 8  # two rows under the first cell
    assert not torch.equal(prior(below, cells)[:, 0], prior(prefixes[:1], cells)[:, 0])
    later = cells.clone()
    later[0, 6] = (cells[0, 6] + 1) % 12
    differs = (prior(prefixes[:1], later) != prior(prefixes[:1], cells)).any(2)[0]
    assert differs.tolist() == [place > 6 for place in range(16)]


def test_pictures_are_drawn_alike_alone_and_together(prefixes):
    prior, settings = prior_of(), SamplingSettings()
    both = sample(prior, TokenCondition(prefixes), Canvas.empty(2, 4, 4), 3, settings).indices
    alone = sample(prior, TokenCondition(prefixes[1:]), Canvas.empty(1, 4, 4), 4, settings).indices
    assert torch.equal(both[1:], alone)


def test_control_needs_a_grid():
    with pytest.raises(ValueError, match="a square grid and nothing unmasked, not 5 tokens"):
        TransformerConfig(**TINY | {"prefix_length": 5})
