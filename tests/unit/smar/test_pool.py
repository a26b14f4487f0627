import threading
from collections.abc import Iterator

import pytest

from meta1g.smar.pool import Pool
from tests.lib.wait import until


class Worked:
    """Work that ends when it is told to."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.busy = 0
        self.gate = threading.Event()

    def __call__(self, item: int) -> None:
        self.busy += 1
        self.gate.wait(10)
        self.done.append(item)


@pytest.fixture
def worked() -> Iterator[Worked]:
    made = Worked()
    yield made
    made.gate.set()


def test_grows_when_all_are_busy(worked: Worked) -> None:
    pool = Pool(worked, 1, 3)
    pool.start()
    assert until(lambda: pool._idle == pool.threads == 1)
    for number, threads in ((1, 1), (2, 2), (3, 3), (4, 3)):
        pool.put(number)
        until(lambda number=number: worked.busy == min(number, 3))
        assert pool.threads == threads
    worked.gate.set()
    until(lambda: sorted(worked.done) == [1, 2, 3, 4])


def test_stays_small_when_one_suffices(worked: Worked) -> None:
    worked.gate.set()
    pool = Pool(worked, 2, 8)
    pool.start()
    until(lambda: pool._idle == 2)
    for number in range(20):
        pool.put(number)
        until(lambda number=number: len(worked.done) == number + 1 and pool._idle == 2)
    assert pool.threads == 2


def test_least_counts_if_it_is_more(worked: Worked) -> None:
    pool = Pool(worked, 3, 1)
    pool.start()
    assert pool.threads == 3


def test_stop_works_off_what_waits(worked: Worked) -> None:
    before = set(threading.enumerate())
    pool = Pool(worked, 1, 2)
    pool.start()
    for number in range(10):
        pool.put(number)
    pool.stop()
    worked.gate.set()
    until(lambda: sorted(worked.done) == list(range(10)))
    until(lambda: set(threading.enumerate()) <= before)
