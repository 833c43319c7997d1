import pytest
import torch

from tessera.core.canvas.canvas import Canvas
from tessera.core.conditions.base import StartToken
from tessera.core.conditions.spatial import CoordinatesCondition
from tessera.core.priors.transformer import Transformer, TransformerConfig
from tessera.core.sampling.likelihood import canvas_nll
from tessera.core.sampling.loop import sample
from tessera.core.sampling.settings import SamplingSettings
from tessera.core.sampling.windows import Sliding

PLAIN = SamplingSettings()


def tiny(prefix_length: int = 1) -> Transformer:
    torch.manual_seed(0)
    prior = Transformer(
        TransformerConfig(layers=2, width=32, heads=4, codebook_size=40, vocab_size=60, prefix_length=prefix_length,
                          window=8)
    ).eval()  # fmt: skip
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return prior.requires_grad_(False)


def test_one_window_has_the_training_loss():
    prior, indices = tiny(), torch.randint(40, (2, 8, 8))
    nll = canvas_nll(prior, StartToken(), Canvas.filled(indices))
    loss = prior.loss(torch.zeros(2, 1, dtype=torch.int64), indices.flatten(1))
    torch.testing.assert_close(nll.mean(), loss, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sliding", [Sliding(), Sliding(stride=2), Sliding(stride=4)])
def test_equals_what_sampling_noted_about_the_same_codes(sliding):
    condition = CoordinatesCondition((9, 14), 20, 8, offset=40)
    state = sample(tiny(64), condition, Canvas.empty(2, 9, 14), 3, PLAIN, sliding)
    nll = canvas_nll(tiny(64), condition, state.canvas, sliding)
    torch.testing.assert_close(nll, -state.log_probability, atol=1e-4, rtol=1e-4)


def test_wrapped_canvas_counts_each_cell_as_at_its_last_draw():
    prior, canvas = tiny(), Canvas.filled(torch.randint(40, (1, 9, 14)))
    rolled = canvas.roll(0, 7)  # the same picture, the border in the middle
    across = canvas_nll(prior, StartToken(), canvas.with_wrap("x")).roll(7, 2)
    torch.testing.assert_close(across[:, :, 4:11], canvas_nll(prior, StartToken(), rolled)[:, :, 4:11])


def test_only_the_asked_for_cells_are_measured():
    prior, canvas = tiny(), Canvas.filled(torch.randint(40, (1, 10, 12)))
    mask = torch.zeros(10, 12, dtype=torch.bool)
    mask[3, 5] = mask[9, 11] = True
    some, every = canvas_nll(prior, StartToken(), canvas, mask=mask), canvas_nll(prior, StartToken(), canvas)
    assert torch.equal(~some.isnan()[0], mask)
    torch.testing.assert_close(some[:, mask], every[:, mask])
    assert not every.isnan().any()


def test_stride_matters_where_the_window_differs_and_nowhere_else():
    prior, canvas = tiny(), Canvas.filled(torch.randint(40, (1, 9, 24)))
    exact, fast = (canvas_nll(prior, StartToken(), canvas, Sliding(stride=s))[0] for s in (1, 4))
    # windows of 8 begin at cell - 4, or at the multiple of 4 that is nearest to it
    same = [j for j in range(24) if min(max(j - 4, 0), 16) == min(max((j - 2) // 4 * 4, 0), 16)]
    torch.testing.assert_close(exact[:, same], fast[:, same])
    others = [j for j in range(24) if j not in same]
    assert ((exact - fast)[1:, others].abs() > 1e-3).float().mean() > 0.9


def test_incomplete_and_narrow_canvases_are_refused():
    with pytest.raises(ValueError, match="unknown cells"):
        canvas_nll(tiny(), StartToken(), Canvas.empty(1, 8, 8))
    with pytest.raises(ValueError, match="7 cells wide, the prior's window 8"):
        canvas_nll(tiny(), StartToken(), Canvas.filled(torch.zeros(1, 8, 7, dtype=torch.int64)))
