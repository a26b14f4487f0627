"""What a slow client may hold: content in memory, a header that comes octet by octet."""
import sys
import time
from typing import Any

import pytest

from meta1g.mta import limits
from meta1g.mta.errors import StoreError
from meta1g.shim.cdb import ContentDb
from meta1g.shim.journal import JournalWriter
from meta1g.smtps.incoming import Incoming, Store
from meta1g.smtps.trace import HeaderScanner
from meta1g.st.block import Blocking
from tests.crash.disk import FakeDisk

TA = "S0000000000000001"


def ta(number: int) -> str:
    return f"{TA}{number:02X}"


@pytest.fixture
def disk() -> FakeDisk:
    return FakeDisk()


@pytest.fixture
def store(disk: Any) -> Store:
    return Store(ContentDb(disk, ""), JournalWriter(disk, ""), Blocking())


def test_octets_one_by_one_take_little_memory(store: Store) -> None:
    incoming = Incoming(store, ta(0))
    for _ in range(100_000):
        incoming.append(b"x")
    assert store.held == 100_000
    held = sys.getsizeof(incoming._small) + sum(map(sys.getsizeof, incoming._pieces))
    assert held < 200_000
    assert incoming.commit().length == 100_000
    assert store.held == 0


def test_pieces_keep_their_order(store: Store, disk: Any) -> None:
    incoming = Incoming(store, ta(0))
    pieces = [b"a", b"b" * 5000, b"c", b"d", b"e" * 5000, b"f" * limits.JOURNAL_MESSAGE, b"g"]
    for piece in pieces:
        incoming.append(piece)
    place = incoming.commit()
    assert b"".join(ContentDb(disk, "").pieces(ta(0), place)) == b"".join(pieces)
    assert store.held == 0


def test_content_of_all_sessions_in_memory_is_bounded(store: Store, disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONTENT_IN_MEMORY", 100_000)
    messages = [Incoming(store, ta(number)) for number in range(20)]
    for _ in range(10):
        for incoming in messages:
            incoming.append(b"x" * 5000)
    assert store.held <= 105_000
    for incoming in messages[:10]:
        incoming.abort()
    for number, incoming in enumerate(messages[10:], 10):
        place = incoming.commit()
        assert b"".join(ContentDb(disk, "").pieces(ta(number), place)) == b"x" * 50_000
    assert store.held == 0


@pytest.mark.parametrize("size", [10, limits.JOURNAL_MESSAGE + 1])
@pytest.mark.parametrize("room", [0, 7])
def test_room_is_filled_last(store: Store, disk: Any, size: int, room: int) -> None:
    incoming = Incoming(store, ta(0))
    incoming.append(b"first")
    incoming.leave_room()
    incoming.append(b"second")
    incoming.set_room(room)
    incoming.append(b"x" * size)
    incoming.append(b"last")
    if room:
        incoming.fill_room(b"between")
    place = incoming.commit()
    assert (place.segment == "") is (size > limits.JOURNAL_MESSAGE)
    assert place.length == incoming.size
    assert b"".join(ContentDb(disk, "").pieces(ta(0), place)) == (
        b"first" + b"between"[:room] + b"second" + b"x" * size + b"last")
    assert store.held == 0


def test_open_room_keeps_content_in_memory(store: Store, disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "JOURNAL_MESSAGE", 50_000)
    monkeypatch.setattr(limits, "CONTENT_IN_MEMORY", 100_000)
    incoming, other = Incoming(store, ta(0)), Incoming(store, ta(1))
    for content in (incoming, other):
        content.leave_room()
        content.append(b"x" * 60_000 if content is incoming else b"y")
    assert store.held == 60_001
    other.append(b"x" * 45_000)  # all together are too many, but this one is small
    with pytest.raises(StoreError, match="too much content") as caught:
        other.append(b"x" * 10_000)
    assert caught.value.is_full
    other.abort()
    incoming.set_room(3)
    incoming.append(b"z")
    assert store.held == 0
    incoming.fill_room(b"abc")
    assert b"".join(ContentDb(disk, "").pieces(ta(0), incoming.commit())) == b"abc" + b"x" * 60_000 + b"z"


def test_header_octet_by_octet_costs_its_length_only() -> None:
    scanner = HeaderScanner()
    header = b"Received: x\r\n" * 3 + b"X: " + b"y" * 300_000 + b"\r\nMessage-Id: <a@b>\r\n"
    began = time.process_time()
    for octet in header + b"\r\nReceived: no\r\n":
        scanner.feed(bytes([octet]))
    assert time.process_time() - began < 2.0  # 0.1; it took 6 s when each octet was looked at again with all before it
    facts = scanner.facts()
    assert (facts.hops, facts.message_id) == (3, b"<a@b>")
    endless = HeaderScanner()
    for _ in range(20):
        endless.feed(b"x" * 65536)
    assert endless.is_too_large
