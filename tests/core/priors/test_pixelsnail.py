"""PixelSNAIL is causal, and does all that the sampling loop asks of a prior."""

import pytest
import torch

from tessera.core.canvas.canvas import Canvas
from tessera.core.conditions.base import TokenCondition
from tessera.core.conditions.label import ClassCondition
from tessera.core.conditions.spatial import SpatialCondition
from tessera.core.prefix import Prefix
from tessera.core.priors.snail.pixelsnail import PixelSnail, PixelSnailConfig
from tessera.core.sampling.likelihood import canvas_nll
from tessera.core.sampling.loop import sample
from tessera.core.sampling.reference import sample_plainly
from tessera.core.sampling.settings import SamplingSettings

TINY = {"blocks": 2, "layers": 1, "width": 16, "kernel": 3, "key_width": 4, "codebook_size": 24, "window": 4}


def decided(**sizes) -> PixelSnail:
    """A prior whose codes depend much on what it sees."""
    torch.manual_seed(0)
    prior = PixelSnail(PixelSnailConfig(**TINY, **sizes))
    torch.nn.init.normal_(prior.head.weight, std=0.5)
    return prior.eval()


@pytest.fixture(scope="module")
def by_grid() -> PixelSnail:
    return decided(vocab_size=32, prefix_length=4)


@pytest.fixture(scope="module")
def by_class() -> PixelSnail:
    return decided(vocab_size=30, prefix_length=1)


def grid(height: int, width: int) -> SpatialCondition:
    indices = torch.randint(8, (1, height // 2, width // 2), generator=torch.Generator().manual_seed(1))
    nothing = TokenCondition(torch.full((1, 4), 24))
    return SpatialCondition(indices, (height, width), 24, nothing)


def test_a_prediction_depends_on_all_cells_before_it_and_on_no_other(by_grid):
    cells = torch.randint(24, (1, 16), generator=torch.Generator().manual_seed(2))
    seen = {}
    by_grid.tok_emb.register_forward_hook(lambda module, inputs, output: seen.update(codes=output))
    for place in range(16):
        logits = by_grid(torch.full((1, 4), 25), cells)
        (gradient,) = torch.autograd.grad(logits[0, place].square().sum(), seen["codes"])
        touched = gradient[0].abs().amax(1) > 0  # of the evaluated cells
        assert touched[:place].all()
        assert not touched[place:].any()


def test_cells_a_few_at_a_time_give_the_logits_of_all_at_once(by_grid):
    generator = torch.Generator().manual_seed(3)
    cells, prefix = torch.randint(24, (4, 15), generator=generator), torch.randint(24, 32, (2, 4), generator=generator)
    whole, _ = by_grid.start(Prefix(prefix), cells, 16)
    first, cache = by_grid.start(Prefix(prefix), cells[:, :3], 4, room=16)
    decoder, parts = by_grid.decoder(), [first]
    parts += [decoder(cells[:, 3:4], cache), decoder(cells[:, 4:9], cache)]
    cache.rollback(6)
    again = decoder(cells[:, 6:9], cache)
    torch.testing.assert_close(again, parts[-1][:, -3:])
    parts.append(decoder(cells[:, 9:], cache, last=6))
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=2e-5, rtol=0)
    torch.testing.assert_close(by_grid(prefix.repeat_interleave(2, 0), torch.cat([cells, cells[:, :1]], 1)), whole)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (6, 8)])
def test_edges_guide_canvases_of_any_size(by_grid, height, width):
    canvas = Canvas.empty(2, height, width)
    canvas.known[:, :2, 1:3] = True
    arguments = by_grid, grid(height, width), canvas, 5, SamplingSettings(guidance_scale=1.5, top_k=12)
    fast, plain = sample(*arguments), sample_plainly(*arguments)
    assert torch.equal(fast.indices, plain.indices)
    torch.testing.assert_close(fast.entropy, plain.entropy, atol=1e-4, rtol=0)


def test_classes_with_a_temperature_for_each_cell(by_class):
    cold = torch.full((1, 4, 4), 1e-6)
    cold[:, 2:] = 1.5
    condition = ClassCondition(torch.tensor([1, 4]), 6, offset=24)
    first, second = (
        sample(by_class, condition, Canvas.empty(2, 4, 4), seed, SamplingSettings(temperature=cold)).indices
        for seed in (1, 2)
    )
    assert torch.equal(first[:, :2], second[:, :2])
    assert not torch.equal(first[:, 2:], second[:, 2:])


def test_likelihood_is_that_of_the_logits(by_class):
    cells = torch.randint(24, (2, 4, 4), generator=torch.Generator().manual_seed(4))
    condition = ClassCondition(torch.tensor([1, 4]), 6, offset=24)
    found = canvas_nll(by_class, condition, Canvas.filled(cells))
    with torch.no_grad():
        logits = by_class(torch.tensor([[25], [28]]), cells.flatten(1)).log_softmax(2)
    wanted = -logits.gather(2, cells.flatten(1)[..., None])[..., 0].view(2, 4, 4)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"prefix_length": 5}, "no square grid"),
        ({"kernel": 4}, "odd"),
        ({"width": 15}, "even"),
        ({"dropout": 1}, "off"),
    ],
)
def test_impossible_shapes_are_refused(sizes, said):
    with pytest.raises(ValueError, match=said):
        PixelSnailConfig(**{**TINY, "vocab_size": 32, "prefix_length": 4, **sizes})
