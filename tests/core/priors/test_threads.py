import itertools

import pytest
import torch

from tessera.core.priors.threads import AGAIN, Threads


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_all_threads_decode_once_the_processor_proves_free(two_threads):
    threads = Threads(adapts=True)
    assert threads.number == 1
    threads.note(0.1, 0.1)
    assert threads.number == 2
    for _ in range(100):
        threads.note(0.1, 0.1)
    assert threads.number == 2


def test_one_thread_decodes_as_long_as_others_push_it_aside(two_threads):
    threads = Threads(adapts=True)
    for _ in range(1000):
        threads.note(0.1, 0.04)
        assert threads.number == 1


def test_all_threads_pushed_aside_are_tried_again_ever_more_rarely(two_threads):
    threads, tries = Threads(adapts=True), []
    for number in range(10 * AGAIN):  # one other program: all threads are pushed aside, one is not
        if threads.number == 2:
            tries.append(number)
        threads.note(0.1, 0.1 if threads.number == 1 else 0.03)
    waits = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert len(waits) >= 2
    assert all(later > 1.5 * earlier for earlier, later in itertools.pairwise(waits))


def test_threads_are_as_before_after_a_pass_even_one_that_failed(two_threads):
    threads = Threads(adapts=True)
    with pytest.raises(ZeroDivisionError), threads.decode():
        1 / (torch.get_num_threads() - 1)
    assert torch.get_num_threads() == 2
    with Threads(adapts=False).decode():
        assert torch.get_num_threads() == 2
