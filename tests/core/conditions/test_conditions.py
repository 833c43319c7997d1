import pytest
import torch

from tessera.core.conditions.base import StartToken, TokenCondition
from tessera.core.conditions.label import ClassCondition
from tessera.core.conditions.spatial import CoordinatesCondition, SpatialCondition
from tessera.core.geometry import Window


def numbered(batch: int, height: int, width: int) -> torch.Tensor:
    return torch.arange(batch * height * width).view(batch, height, width)


def test_image_condition_gives_the_codes_under_the_window_row_by_row():
    condition = SpatialCondition(numbered(2, 6, 8), (6, 8))
    prefix = condition.prefix(Window(1, 2, 2, 3))
    assert prefix.tolist() == [[10, 11, 12, 18, 19, 20], [58, 59, 60, 66, 67, 68]]


def test_image_condition_finer_than_the_canvas_gives_all_its_cells_there():
    condition = SpatialCondition(numbered(1, 8, 12), (4, 6))  # 2x2 condition cells for each of the canvas
    assert condition.prefix(Window(1, 2, 1, 2)).tolist() == [[28, 29, 30, 31, 40, 41, 42, 43]]


def test_image_condition_coarser_than_the_canvas_gives_the_cells_it_lies_in():
    condition = SpatialCondition(numbered(1, 2, 3), (4, 6))
    assert condition.prefix(Window(0, 0, 2, 2)).tolist() == [[0]]
    assert condition.prefix(Window(2, 2, 2, 2)).tolist() == [[4]]
    lengths = {condition.prefix(Window(t, s, 2, 2)).shape[1] for t in range(3) for s in range(5)}
    assert lengths == {1}  # also where the window stands between two of them


def test_image_condition_goes_on_beyond_the_border_as_the_window_says():
    condition = SpatialCondition(numbered(1, 2, 3), (2, 3))
    assert condition.prefix(Window(0, 1, 3, 3)).tolist() == [[1, 2, 2, 4, 5, 5, 4, 5, 5]]
    assert condition.prefix(Window(-1, 1, 2, 3, "x")).tolist() == [[1, 2, 0, 1, 2, 0]]
    assert condition.prefix(Window(-1, 1, 2, 3, "both")).tolist() == [[4, 5, 3, 1, 2, 0]]
    finer = SpatialCondition(numbered(1, 2, 6), (1, 3))
    assert finer.prefix(Window(0, -1, 1, 2, "x")).tolist() == [[4, 5, 0, 1, 10, 11, 6, 7]]


def test_image_condition_s_own_rows_of_the_vocabulary_begin_at_its_offset():
    condition = SpatialCondition(numbered(1, 2, 2), (2, 2), offset=100)
    assert condition.prefix(Window(0, 0, 2, 2)).tolist() == [[100, 101, 102, 103]]


def test_image_condition_of_other_proportions_than_the_canvas_is_refused():
    with pytest.raises(ValueError, match="the condition has 4x6 cells and the canvas 4x5"):
        SpatialCondition(numbered(1, 4, 6), (4, 5))


def test_class_condition_is_the_label_whatever_the_window():
    condition = ClassCondition(torch.tensor([3, 0]), classes=4, offset=20)
    for window in (Window(0, 0, 2, 2), Window(3, 1, 2, 2)):
        assert condition.prefix(window).tolist() == [[23], [20]]


@pytest.mark.parametrize("label", [-1, 4])
def test_label_that_does_not_exist_is_refused_with_the_limits(label):
    with pytest.raises(ValueError, match=f"class label {label} does not exist; choose 0 to 3"):
        ClassCondition(torch.tensor([1, label]), classes=4)


def test_coordinates_by_hand():
    # 2x3 cells of 2x2 pixels, 24 pixels in 6 columns; a cell's mean pixel number over 24, in 100 steps
    condition = CoordinatesCondition((2, 3), steps=100, stride=2)
    means = [3.5, 5.5, 7.5, 15.5, 17.5, 19.5]  # of pixels (0, 1, 6, 7), (2, 3, 8, 9), ...
    expected = [round(mean / 24 * 100) for mean in means]
    assert condition.prefix(Window(0, 0, 2, 3)).tolist() == [expected]
    assert condition.prefix(Window(1, 1, 1, 2)).tolist() == [expected[4:]]


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 40), (33, 20)])
def test_coordinates_equal_pooled_pixel_numbers(height, width):
    pixels = torch.arange(height * width * 256, dtype=torch.float64).view(1, 1, height * 16, width * 16)
    pooled = torch.nn.functional.avg_pool2d(pixels / pixels.numel(), 16)[0, 0]
    tokens = CoordinatesCondition((height, width), steps=1024, stride=16).prefix(Window(0, 0, height, width))
    assert (tokens.view(height, width) - pooled * 1024).abs().max() <= 0.5 + 1e-3  # float32 rounds ties either way


def test_coordinates_of_a_very_high_picture_stay_in_the_vocabulary():
    condition = CoordinatesCondition((1000, 1), steps=1024, stride=16)
    assert condition.prefix(Window(999, 0, 1, 1)).tolist() == [[1023]]


def test_coordinates_beyond_a_border_are_those_of_the_cells_shown_there():
    condition = CoordinatesCondition((4, 5), steps=1000, stride=2)
    whole = condition.prefix(Window(0, 0, 4, 5)).view(4, 5)
    assert torch.equal(condition.prefix(Window(-1, 3, 2, 4, "both")).view(2, 4), whole[[3, 0]][:, [3, 4, 0, 1]])
    assert torch.equal(condition.prefix(Window(2, 0, 4, 7)).view(4, 7), whole[[2, 3, 3, 3]][:, [0, 1, 2, 3, 4, 4, 4]])


def test_coordinates_stay_below_their_number_of_steps():
    condition = CoordinatesCondition((200, 200), steps=8, stride=1, offset=50)
    prefix = condition.prefix(Window(0, 0, 200, 200))
    assert (int(prefix.min()), int(prefix.max())) == (50, 57)


def test_tokens_and_the_start_token_are_the_same_for_every_window():
    for window in (Window(0, 0, 2, 2), Window(3, 1, 2, 2)):
        assert StartToken(7).prefix(window).tolist() == [[7]]
        assert TokenCondition(torch.tensor([[1, 5, 2]])).prefix(window).tolist() == [[1, 5, 2]]


def test_prefixes_are_int64():
    window = Window(0, 0, 2, 2)
    conditions = [
        SpatialCondition(numbered(1, 2, 2), (2, 2)),
        ClassCondition(torch.tensor([0]), 1),
        CoordinatesCondition((2, 2), 4, 2),
        StartToken(),
    ]
    assert {condition.prefix(window).dtype for condition in conditions} == {torch.int64}
