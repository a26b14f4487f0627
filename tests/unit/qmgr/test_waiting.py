"""Whose turn it is at a site."""
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from meta1g.qmgr.waiting import Batch, Waiting


def _batch(client: str, mail: bytes, ta: str) -> Batch:
    return Batch((client, mail.partition(b"@")[2]), mail, ta, mail)


def _any(batch: Batch, rcpts: list[object]) -> bool:
    return True


BATCHES = st.builds(_batch, st.sampled_from(["", "192.0.2.1", "192.0.2.2"]),
                    st.sampled_from([b"", b"a@x", b"b@x", b"c@y"]), st.sampled_from(["S1", "S2", "S3"]))


@given(st.lists(BATCHES, max_size=60), st.integers(1, 5))
def test_nothing_is_lost_and_nobody_waits_for_ever(batches: list[Batch], most: int) -> None:
    waiting = Waiting()
    for number, batch in enumerate(batches):
        waiting.add(batch, number)
    taken: list[int] = []
    groups: list[tuple[str, bytes]] = []
    while (batch := waiting.first(_any)) is not None:
        others = {other.group for other, _ in waiting}
        part = waiting.take(batch, most)
        assert 0 < len(part) <= most
        taken += part
        assert len(waiting) + len(taken) == len(batches)
        groups.append(batch.group)
        assert len(others) == 1 or len(groups) < 2 or groups[-2] != batch.group, "two turns while others wait"
    assert Counter(taken) == Counter(range(len(batches)))
    for batch in set(batches):
        order = [number for number in taken if batches[number] == batch]
        assert order == sorted(order), "mail of one batch goes in its order"


def test_those_that_may_not_go_yet_are_passed_over() -> None:
    waiting = Waiting()
    first, second = _batch("", b"a@x", "S1"), _batch("", b"a@x", "S2")
    waiting.add(first, 1)
    waiting.add(second, 2)
    assert waiting.first(lambda batch, rcpts: batch.ta != "S1") == second
    assert waiting.first(lambda batch, rcpts: False) is None
    assert waiting.take_all() == [("S1", 1), ("S2", 2)]
    assert len(waiting) == 0
    assert waiting.first(_any) is None
