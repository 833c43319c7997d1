import pytest

from tessera.core.geometry import Window
from tessera.core.sampling.windows import Sliding, visits, window_around, window_start


def start_in_three_branches(cell: int, size: int) -> int:
    """The released sampling script's rule for a window of 16, branch by branch."""
    if cell <= 8:
        return 0
    if size - cell < 8:
        return size - 16
    return cell - 8


@pytest.mark.parametrize("size", range(16, 80))
def test_start_is_the_original_s_for_every_cell(size):
    starts = [window_start(cell, size, 16) for cell in range(size)]
    assert starts == [min(max(cell - 8, 0), size - 16) for cell in range(size)]
    assert starts == [start_in_three_branches(cell, size) for cell in range(size)]


def test_window_at_the_border_sees_the_first_sixteen_columns():
    assert window_around(0, 0, 40, 50, 16) == Window(0, 0, 16, 16)
    assert window_around(3, 8, 40, 50, 16) == Window(0, 0, 16, 16)
    assert window_around(3, 9, 40, 50, 16) == Window(0, 1, 16, 16)


def test_window_in_the_middle_and_at_the_far_corner():
    assert window_around(20, 30, 40, 50, 16) == Window(12, 22, 16, 16)
    assert window_around(39, 49, 40, 50, 16) == Window(24, 34, 16, 16)


@pytest.mark.parametrize("side", [1, 2, 3, 4, 7, 16])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 31), (40, 18)])
def test_window_lies_on_the_canvas_and_holds_its_cell(side, height, width):
    for row in range(height):
        for column in range(width):
            top, left, tall, wide, _ = window_around(row, column, height, width, side)
            assert (tall, wide) == (side, side)
            assert 0 <= top <= row < top + side <= height
            assert 0 <= left <= column < left + side <= width


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 9), (15, 16), (3, 40)])
def test_window_on_a_smaller_canvas_begins_at_its_corner_and_is_complete(height, width):
    for row in range(height):
        for column in range(width):
            window = window_around(row, column, height, width, 16)
            assert window[2:4] == (16, 16)
            assert window.top == 0
            assert 0 <= window.left <= column < window.left + 16 <= max(width, 16)


def test_window_over_a_border_repeats_the_border_s_cells():
    window = Window(0, 0, 4, 6)
    assert window.rows(2) == [0, 1, 1, 1]
    assert window.columns(3) == [0, 1, 2, 2, 2, 2]
    assert Window(-1, 2, 3, 3).rows(9) == [0, 0, 1]


def test_window_over_a_wrapped_border_shows_the_other_end():
    assert Window(-2, 3, 4, 4, "x").columns(5) == [3, 4, 0, 1]
    assert Window(-2, 3, 4, 4, "x").rows(5) == [0, 0, 0, 1]
    assert Window(-2, 3, 4, 4, "y").rows(5) == [3, 4, 0, 1]
    assert Window(-2, 3, 4, 4, "both").columns(2) == [1, 0, 1, 0]


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [16, 17, 24, 39, 64])
def test_strided_window_moves_a_stride_at_a_time_and_keeps_its_cell_near_the_middle(stride, size):
    starts = [window_start(cell, size, 16, stride) for cell in range(size)]
    assert starts == sorted(starts)
    inside = [start for start in starts if 0 < start < size - 16]
    assert all(start % stride == 0 for start in inside)
    assert all(inside.count(start) == stride for start in inside)
    for cell, start in enumerate(starts):
        assert 0 <= start <= cell < start + 16 <= size
        if 0 < start < size - 16:
            assert 8 - stride // 2 <= cell - start < 8 + (stride + 1) // 2


def test_wrapped_window_is_held_back_the_first_time_only():
    tile = {"wrap": "both"}
    assert window_around(2, 3, 20, 30, 16, **tile) == Window(0, 0, 16, 16, "both")
    assert window_around(2, 3, 20, 30, 16, **tile, again=True) == Window(-6, -5, 16, 16, "both")
    assert window_around(19, 29, 20, 30, 16, **tile) == Window(11, 21, 16, 16, "both")
    panorama = {"sliding": Sliding(stride=4), "wrap": "x"}
    assert window_around(2, 3, 20, 30, 16, **panorama, again=True) == Window(0, -4, 16, 16, "x")


@pytest.mark.parametrize(("wrap", "rows", "columns"), [("none", 0, 0), ("x", 0, 8), ("y", 8, 0), ("both", 8, 8)])
def test_cells_whose_window_was_held_back_are_visited_again(wrap, rows, columns):
    counts = {}
    for visit in visits(20, 30, 16, wrap=wrap):
        cell = visit.row, visit.column
        counts[cell] = counts.get(cell, 0) + 1
        assert visit.pass_number == counts[cell]
    assert counts == {(i, j): 1 + (i < rows) + (j < columns) for i in range(20) for j in range(30)}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stride": 3}, "stride is 3; choose 1"),
        ({"stride": 0}, "stride is 0"),
        ({"rows": -1}, "rows is -1"),
        ({"rows": 1.5}, "rows is 1.5"),
    ],
)
def test_ways_to_slide_that_do_not_exist_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Sliding(**values)
