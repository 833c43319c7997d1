import math

import pytest
import torch

from tessera.core.canvas.canvas import Canvas
from tessera.core.canvas.masks import cells_to_mask, mask_to_cells
from tessera.core.sampling.settings import SamplingSettings, settings_for
from tessera.core.sampling.state import SamplingState, statistics_masks


def test_cell_has_the_share_of_it_that_is_painted():
    mask = torch.zeros(1, 32, 48)
    mask[0, 16:32, 16:24] = 1  # half of cell (1, 1)
    mask[0, :16, 32:] = 1
    assert mask_to_cells(mask, Canvas.empty(2, 2, 3)).tolist() == [[[0, 0, 1], [0, 0.5, 0]]]


def test_mask_of_another_size_is_laid_over_the_whole_picture():
    mask = torch.zeros(1, 7, 14)
    mask[0, :, 7:] = 1
    assert mask_to_cells(mask, Canvas.empty(1, 2, 4)).tolist() == [[[0, 0, 1, 1]] * 2]


def test_mask_ends_where_the_picture_ends_not_where_the_last_cells_do():
    canvas = Canvas.empty(1, 1, 2).with_padding((0.0, 0.5))  # one and a half cells wide
    mask = torch.zeros(1, 4, 24)
    mask[0, :, 16:] = 1  # the half cell
    assert mask_to_cells(mask, canvas).tolist() == [[[0, 1]]]


def test_mask_batch_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="give one mask, or as many"):
        mask_to_cells(torch.zeros(2, 8, 8), Canvas.empty(3, 2, 2))


def test_cells_become_squares_trimmed_to_the_picture():
    canvas = Canvas.empty(1, 1, 2).with_padding((0.0, 0.25))
    mask = cells_to_mask(torch.tensor([[[0.2, 0.8]]]), canvas, 4)
    assert mask.shape == (1, 4, 7)
    assert mask[0, 0].tolist() == pytest.approx([0.2] * 4 + [0.8] * 3)


def test_temperature_map_gets_one_value_a_cell_and_a_number_stays():
    canvas = Canvas.empty(1, 1, 2)
    painted = torch.cat([torch.zeros(1, 16, 16), torch.ones(1, 16, 16)], 2)
    fitted = settings_for(SamplingSettings(temperature=painted, top_k=3), canvas)
    assert fitted.temperature.tolist() == [[[0, 1]]]
    assert fitted.top_k == 3
    plain = SamplingSettings(temperature=0.7)
    assert settings_for(plain, canvas) is plain


def test_statistics_are_shares_of_a_blind_guess():
    canvas = Canvas.empty(1, 1, 2)
    state = SamplingState.start(canvas, 0)
    state.entropy[0, 0] = torch.tensor([0.0, math.log(8)])
    state.log_probability[0, 0] = torch.tensor([0.0, math.log(1 / 64)])
    entropy, surprise = statistics_masks(state, canvas, 8, 2)
    assert entropy[0, 0].tolist() == pytest.approx([0, 0, 1, 1])
    assert surprise[0, 0].tolist() == pytest.approx([0, 0, 2, 2])
