"""EDBC keeps the order of time, stays within its bound, and forgets nobody."""
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta1g.qmgr.edbc import Edbc
from meta1g.shim.defedb import Waiting


def taken(edbc: Edbc, now: float, room: int = 100) -> list[int]:
    return [entry.idx for entry in edbc.due(now, room)]


def test_order_of_deferred() -> None:
    edbc = Edbc()
    assert edbc.next_time() is None
    for idx in (30, 10, 20, 40):
        edbc.add(Waiting(float(idx), "a", idx))
    assert edbc.next_time() == 10.0
    assert taken(edbc, 25.0) == [10, 20]
    assert taken(edbc, 100.0, 1) == [30]
    edbc.hurry(5.0)
    assert taken(edbc, 5.0) == [40]
    assert len(edbc) == 0


def test_what_is_chosen_is_brought_forward() -> None:
    edbc = Edbc(4)
    for idx, when in enumerate((50.0, 500.0, 600.0)):
        edbc.add(Waiting(when, "S", idx))
    edbc.bring_forward({("S", 0), ("S", 2)}, 100.0)
    assert edbc.is_hurried
    edbc.postpone(Waiting(400.0, "T", 0))
    assert taken(edbc, 100.0) == [0, 2]
    assert edbc.next_time() == 400.0
    edbc.hurry(200.0)
    assert sorted(edbc.due(200.0, 9)) == [Waiting(200.0, "S", 1), Waiting(200.0, "T", 0)]


class Model:
    """EDBC with a DEFEDB of plain data, and what waits there."""

    def __init__(self, most: int) -> None:
        self.edbc = Edbc(most)
        self.most = most
        self.records: dict[int, float] = {}
        self.active: set[int] = set()
        self.now = 0.0
        self.scan: tuple[int, Waiting] | None = None  # the next key of the refill under way
        self.moved: set[int] = set()

    def store(self, idx: int, after: float) -> None:
        """A recipient of AQ, or a new one, goes to DEFEDB."""
        self.active.discard(idx)
        self.records[idx] = self.now + after
        self.edbc.add(Waiting(self.now + after, "T", idx))

    def fetch(self, room: int) -> None:
        """What is due comes into AQ, unless it is there."""
        for entry in self.edbc.due(self.now, room):
            if entry.idx not in self.active and entry.idx in self.records:
                self.active.add(entry.idx)
                self.moved.discard(entry.idx)

    def refill(self, keys: int) -> None:
        """A piece of a refill, which begins or ends with it if need be."""
        if self.scan is None:
            if not self.edbc.wants_more:
                return
            self.scan = (0, self.edbc.begin_refill())
        at, since = self.scan
        piece = [idx for idx in sorted(self.records) if idx >= at][:keys + 1]
        self.edbc.refill(entry for entry in (Waiting(self.records[idx], "T", idx) for idx in piece[:keys])
                         if entry >= since)
        if len(piece) > keys:
            self.scan = (piece[keys], since)
        else:
            self.scan = None
            self.edbc.end_refill(is_whole=True)


@pytest.mark.parametrize("seed", range(60))
def test_nobody_is_forgotten(seed: int) -> None:
    """Random work, then time passes: all come into AQ, none before its time unless it was brought forward."""
    luck = random.Random(seed)
    model = Model(luck.choice([4, 8, 20]))
    ids = iter(range(1, 10_000))
    for _ in range(400):
        match luck.randrange(8):
            case 0 | 1:
                for _ in range(luck.randrange(8)):
                    model.store(next(ids), luck.choice([0, 1, 5, 5, 50, 500]) * luck.choice([1.0, luck.random()]))
            case 2:
                model.fetch(luck.randrange(1, 10))
            case 3:
                model.refill(luck.randrange(1, 5))
            case 4:
                model.now += luck.choice([0.0, 1.0, 20.0])
            case 5 if model.active:
                idx = luck.choice(sorted(model.active))
                if luck.random() < 0.5:
                    model.store(idx, luck.choice([1, 10, 100]))
                else:
                    model.active.discard(idx)
                    del model.records[idx]
            case 6 if luck.random() < 0.2:
                waiting = sorted(model.records.keys() - model.active)
                chosen = luck.sample(waiting, min(len(waiting), model.edbc.batch))
                model.moved.update(chosen)
                model.edbc.bring_forward({("T", idx) for idx in chosen}, model.now)
            case 7 if model.edbc.is_whole and luck.random() < 0.2:
                model.edbc.hurry(model.now)
        assert len(model.edbc) <= model.most + len(model.moved)
    model.now += 10_000
    for _ in range(10_000):
        model.fetch(5)
        model.refill(50)
        if not len(model.edbc) and model.edbc.is_whole:
            break
    assert model.active == model.records.keys()


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 50)), unique_by=lambda pair: pair[1]))
def test_memory_is_bounded(entries: list[Any]) -> None:
    """The first ones stay, in order; the rest is beyond."""
    edbc = Edbc(8)
    for when, idx in entries:
        edbc.add(Waiting(when, "S", idx))
        assert len(edbc) <= 8
    ordered = sorted(Waiting(when, "S", idx) for when, idx in entries)
    kept = edbc.due(math.inf, 100)
    assert kept == ordered[:len(kept)]
    assert edbc.is_whole == (len(kept) == len(ordered))
    if not edbc.is_whole:
        assert edbc.begin_refill() == ordered[len(kept)]
        edbc.end_refill(is_whole=False)
        assert edbc.wants_more
