import pytest

from tessera.core.window import Window, window_around, window_start


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
            top, left, tall, wide = window_around(row, column, height, width, side)
            assert (tall, wide) == (side, side)
            assert 0 <= top <= row < top + side <= height
            assert 0 <= left <= column < left + side <= width


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 9), (15, 16), (3, 40)])
def test_window_on_a_smaller_canvas_is_as_large_as_the_canvas(height, width):
    for row in range(height):
        for column in range(width):
            top, left, tall, wide = window_around(row, column, height, width, 16)
            assert (tall, wide) == (min(16, height), min(16, width))
            assert 0 <= top <= row < top + tall <= height
            assert 0 <= left <= column < left + wide <= width
