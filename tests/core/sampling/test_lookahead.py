import random

from tessera.core.sampling.lookahead import CHOICES, Lookahead


def settle(share: float, start: float, each: float, rows: int = 1) -> int:
    """What is chosen in the end where this share of guesses is right and a pass costs start + each * cells."""
    lookahead, luck = Lookahead(rows), random.Random(0)
    for _ in range(500):
        cells = lookahead.choose(100)
        right = next((i for i in range(cells) if luck.random() > share), cells)
        lookahead.note(cells, right, start + each * cells)
    return lookahead.choose(100)


def test_cheap_cells_and_good_guesses_pay_for_many():
    assert settle(0.9, 1.0, 0.001) >= 16
    assert settle(0.0, 1.0, 0.1) == 1
    assert settle(0.8, 0.1, 1.0) == 1  # each cell costs as much as a pass of its own
    assert 4 <= settle(0.8, 1.0, 0.1) <= 12


def test_choice_stays_within_what_is_left_and_may_be_fixed():
    assert Lookahead(1, fixed=7).choose(100) == 7
    assert Lookahead(1, fixed=7).choose(3) == 3
    assert Lookahead(1).choose(3) <= 3
    assert Lookahead(1).choose(1) == 1
    assert max(CHOICES) == 32


def test_many_images_side_by_side_begin_with_fewer_cells():
    assert Lookahead(16).choose(100) < Lookahead(1).choose(100)


def test_guesses_that_never_come_true_are_soon_given_up_and_rarely_tried_again():
    lookahead, cost = Lookahead(1), 0.0
    for _ in range(256):
        cells = lookahead.choose(100)
        lookahead.note(cells, 1, 1 + 0.08 * (cells - 1))
        cost += 1 + 0.08 * (cells - 1)
    assert cost < 256 * 1.015


def test_cells_that_must_be_evaluated_besides_make_more_guesses_pay():
    assert Lookahead(16).choose(100, backlog=200) > Lookahead(16).choose(100)


def test_passes_that_something_else_slowed_do_not_spoil_the_choice():
    def cost(seed: int, disturbed: bool) -> float:
        """Of 512 cells of which 0.8 are guessed, had nothing slowed a pass."""
        lookahead, luck, left, total = Lookahead(1), random.Random(seed), 512, 0.0
        while left:
            cells = lookahead.choose(left)
            decided = next((i + 1 for i in range(cells) if luck.random() > 0.8), cells)
            seconds, slower = 1 + 0.08 * cells, luck.uniform(2, 12) if total == 0 or luck.random() < 0.05 else 1
            lookahead.note(cells, decided, seconds * slower if disturbed else seconds)
            left, total = left - decided, total + seconds
        return total

    costs = [cost(seed, True) for seed in range(40)]
    usual = sum(cost(seed, False) for seed in range(40)) / 40
    assert sum(costs) / 40 < 1.1 * usual
    assert max(costs) < 1.6 * usual  # twice as much is what single cells cost
