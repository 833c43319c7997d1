from itertools import chain

import pytest

from tessera.core.sampling.schedule import mark_cached, schedule_rounds, split_groups, split_segments
from tessera.core.sampling.windows import EXACT, Sliding, visits


def made(height: int, width: int, most: int, sliding: Sliding = EXACT, wrap: str = "none"):
    draws = visits(height, width, 16, sliding, wrap)
    return schedule_rounds(split_segments(draws, height, width), height, width, most)


@pytest.mark.parametrize("most", [2, 100])
@pytest.mark.parametrize(("sliding", "wrap"), [(EXACT, "none"), (Sliding(stride=8), "none"), (EXACT, "both")])
def test_every_visit_is_made_once_and_after_those_it_sees(most, sliding, wrap):
    height, width = 19, 24
    when = {}
    for number, together in enumerate(made(height, width, most, sliding, wrap)):
        assert 0 < len(together) <= most
        for visit in chain.from_iterable(stretch.visits for stretch in together):
            assert (visit.row, visit.column, visit.pass_number) not in when
            when[visit.row, visit.column, visit.pass_number] = number
    order = list(visits(height, width, 16, sliding, wrap))
    assert set(when) == {(v.row, v.column, v.pass_number) for v in order}
    drawn, seen = {}, {}  # cell -> the last round that draws it, that sees it; in the order that defines the result
    for v in order:
        now = when[v.row, v.column, v.pass_number]
        before = [(i, j) for i in v.window.rows(height) for j in v.window.columns(width)]
        for cell in before[: (v.row - v.window.top) * 16 + v.column - v.window.left]:
            assert drawn[cell] <= now  # in one round only within a stretch
            seen[cell] = max(seen.get(cell, -1), now)
        assert seen.get((v.row, v.column), -1) < now
        drawn[v.row, v.column] = now


def test_one_row_at_a_time_is_raster_order():
    order = [stretch.visits[0][:2] for together in made(18, 30, 1) for stretch in together]
    assert order == sorted(order)


@pytest.mark.parametrize(("height", "width", "fewer"), [(32, 64, 3), (64, 64, 3), (64, 128, 6)])
def test_rounds_are_several_times_fewer_than_windows(height, width, fewer):
    together = made(height, width, 1000)
    assert len(together) * fewer < sum(map(len, together))


def test_window_that_stands_still_is_one_stretch():
    work = split_segments(visits(18, 16, 16, Sliding()), 18, 16)
    assert [len(stretch.visits) for stretch in work] == [9 * 16, 16, 8 * 16]
    row = split_segments((v for v in visits(18, 40, 16, Sliding()) if v.row == 0), 18, 40)
    assert [len(stretch.visits) for stretch in row] == [9, *[1] * 23, 8]


@pytest.mark.parametrize("most", [0, 3, 9, 100])
def test_no_more_windows_are_remembered_than_allowed_and_each_is_used(most):
    kept, saved = set(), 0
    for together in mark_cached(made(36, 40, 2), most):
        for stretch in together:
            assert stretch.resumes == (stretch.window in kept)
            kept.discard(stretch.window)
            saved += stretch.resumes
            if stretch.kept:
                kept.add(stretch.window)
        assert len(kept) <= most
    assert not kept
    assert (saved > 0) == (most > 0)
    if most >= 9:  # every second of the 17 rows whose window stands still from the row above goes on from it
        assert saved >= 8 * 25


def test_batch_holds_the_same_places_only():
    for together in mark_cached(made(40, 60, 100), 9):
        for batch in split_groups(together):
            assert len({stretch.places for stretch in batch}) == 1
            assert len(batch) == 1 or not any(stretch.resumes or stretch.kept for stretch in batch)
