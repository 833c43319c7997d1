import pytest
import torch
from PIL import Image

from tessera.core.canvas.canvas import Canvas
from tessera.core.images.metrics import check_alike, code_agreement
from tessera.core.images.sheet import contact_sheet, labeled_sheet, labeled_tiles
from tessera.core.sampling.likelihood import best_of, mean_log_probability
from tessera.core.sampling.settings import SamplingSettings, parse_values, swept_settings
from tessera.core.sampling.state import SamplingState


def test_values_are_read_with_commas_or_spaces():
    assert parse_values("0.5, 1  2,") == [0.5, 1, 2]
    for bad in ("", "0.5; 1", "x", ",".join("1" * 33)):
        with pytest.raises(ValueError, match=r"like 0\.5, 0\.8, 1"):
            parse_values(bad)


def test_each_value_changes_one_setting_and_leaves_the_others():
    settings = swept_settings(SamplingSettings(temperature=0.5, min_p=0.1), "top_k", [1.0, 20.0])
    assert [(s.top_k, s.temperature, s.min_p) for s in settings] == [(1, 0.5, 0.1), (20, 0.5, 0.1)]
    with pytest.raises(ValueError, match="whole numbers"):
        swept_settings(SamplingSettings(), "top_k", [1.5])
    with pytest.raises(ValueError, match="top_p is 2"):
        swept_settings(SamplingSettings(), "top_p", [0.5, 2.0])


def test_likelihood_counts_the_sampled_cells_only():
    state = SamplingState.start(Canvas.empty(2, 1, 3), 0)
    state.log_probability[:] = torch.tensor([[[-1.0, -3.0, 0.0]], [[-2.0, 0.0, 0.0]]])
    known = torch.tensor([[[False, False, True]], [[False, True, True]]])
    assert mean_log_probability(state, known).tolist() == [-2, -2]
    assert mean_log_probability(state, torch.ones_like(known)).tolist() == [0, 0]


def test_best_of_each_group_come_best_first():
    scores = torch.tensor([-1.0, -9.0, -3.0, -2.0, -2.0, -5.0])  # groups 0 and 1, three candidates each
    assert best_of(scores, 2, 1).tolist() == [0, 3]
    assert best_of(scores, 2, 2).tolist() == [0, 3, 4, 5]
    with pytest.raises(ValueError, match="choose 1 to 3"):
        best_of(scores, 2, 4)


def test_canvases_are_picked_and_joined():
    a, b = Canvas.filled(torch.arange(6).view(3, 1, 2)), Canvas.empty(1, 1, 2)
    assert a.pick(torch.tensor([2, 0])).indices.tolist() == [[[4, 5]], [[0, 1]]]
    joined = a.join([b])
    assert joined.known.flatten(1).all(1).tolist() == [True, True, True, False]
    with pytest.raises(ValueError, match="1x2, 2x2 cells can't be joined"):
        a.join([Canvas.empty(1, 2, 2)])


def test_agreement_is_the_share_of_equal_cells():
    a = torch.tensor([[[1, 2], [3, 4]]])
    assert code_agreement(a, torch.tensor([[[1, 0], [3, 0]]])).tolist() == [0.5]
    with pytest.raises(ValueError, match="one size"):
        check_alike(a, a[:, :1], "canvas")


def test_sheet_keeps_proportions_and_gives_each_label_its_row():
    wide = [Image.new("RGB", (40, 20), color) for color in ("red", "green", "blue", "black")]
    sheet = labeled_sheet(["one", "two"], wide, side=10)
    assert sheet.size == (2 * (20 + 8) + 8, 2 * (10 + 24 + 8) + 8)
    assert sheet.getpixel((8 + 28 + 10, 8 + 24 + 5)) == (0, 128, 0)
    assert sheet.getpixel((8 + 10, 8 + 42 + 24 + 5)) == (0, 0, 255)
    assert contact_sheet([("", [Image.new("RGB", (192, 192))])]).size == (208, 232)


def test_each_tile_has_its_own_label():
    pictures = [Image.new("RGB", (20, 10), color) for color in ("red", "green", "blue")]
    sheet = labeled_tiles(["a", "b", "c"], pictures, side=10)
    assert sheet.size == (2 * (20 + 16), 2 * (10 + 24 + 16))
    assert sheet.getpixel((8 + 5, 50 + 8 + 24 + 5)) == (0, 0, 255)
    assert sheet.getpixel((36 + 8 + 5, 50 + 8 + 24 + 5)) == (255, 255, 255)
    assert any(sheet.getpixel((36 + 8 + x, 8 + y)) != (255, 255, 255) for x in range(12) for y in range(20))
