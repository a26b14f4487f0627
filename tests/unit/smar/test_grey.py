"""Greylisting: the states of M1 3.9.4, the databases, the thread that uses them."""
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta1g.mta.errors import StoreError
from meta1g.proc.log import Log
from meta1g.shim.greydb import GreyDb, GreyRecord
from meta1g.smar.ask import GreyAnswer, GreyAsk
from meta1g.smar.grey import Entry, Judgement, Limits, judge, key_of
from meta1g.smar.greylist import Greylist
from tests.lib.wait import until

LIMITS = Limits(grey_wait=300, grey_expire=3600, white_expire=10_000, white_timeout=20_000, entries=5)
NOW = 1_000_000.0
CASES: list[tuple[Entry | None, Judgement]] = [
    (None, Judgement(False, "unknown", Entry(False, NOW))),
    (Entry(False, NOW), Judgement(False, "greylisted", None)),
    (Entry(False, NOW - 299), Judgement(False, "greylisted", None)),
    (Entry(False, NOW - 300), Judgement(True, "confirmed", Entry(True, NOW))),
    (Entry(False, NOW - 3600), Judgement(True, "confirmed", Entry(True, NOW))),
    (Entry(False, NOW - 3601), Judgement(False, "expired", Entry(False, NOW))),
    (Entry(True, NOW - 59), Judgement(True, "whitelisted", None)),
    (Entry(True, NOW - 60), Judgement(True, "whitelisted", Entry(True, NOW))),
    (Entry(True, NOW - 15_000), Judgement(True, "whitelisted", Entry(True, NOW))),  # white_expire is for the database
    (Entry(True, NOW - 20_001), Judgement(False, "expired", Entry(False, NOW))),
    (Entry(False, NOW + 500), Judgement(False, "greylisted", None)),  # the clock was set back
    (Entry(True, NOW + 500), Judgement(True, "whitelisted", None)),
]


@pytest.mark.parametrize(("entry", "judgement"), CASES)
def test_states(entry: Entry | None, judgement: Judgement) -> None:
    assert judge(entry, NOW, LIMITS) == judgement


@given(st.lists(st.floats(1, 30_000), min_size=1, max_size=30))
def test_a_client_that_comes_again(pauses: list[float]) -> None:
    """It passes if and only if a mail within the right time before has confirmed it and none was too late."""
    entry, now, seen, is_white = None, NOW, 0.0, False
    for pause in pauses:
        now += pause
        judgement = judge(entry, now, LIMITS)
        if is_white:
            is_white = now - seen <= LIMITS.white_timeout
            wanted = is_white
        else:
            wanted = is_white = bool(seen) and LIMITS.grey_wait <= now - seen <= LIMITS.grey_expire
        assert judgement.may_pass is wanted
        entry = judgement.write or entry
        assert entry is not None
        if wanted or judgement.write is not None:
            seen = entry.since


@pytest.mark.parametrize(("ip", "mask", "key"), [
    ("192.0.2.77", 0xFFFFFFFF, b"192.0.2.77"), ("192.0.2.77", 0xFFFFFF00, b"192.0.2.0"),
    ("::ffff:192.0.2.77", 0xFFFFFF00, b"192.0.2.0"), ("2001:db8:1:2:3:4:5:6", 0xFFFFFF00, b"2001:db8:1:2::"),
])
def test_key(ip: str, mask: int, key: bytes) -> None:
    assert key_of(ip, b"", b"", is_full=False, netmask=mask) == key
    full = key_of(ip, b"A@b.c", b"D@e.f", is_full=True, netmask=mask)
    assert full == key + b"\0a@b.c\0d@e.f"
    long = key_of(ip, b"a" * 300, b"b" * 300, is_full=True, netmask=mask)
    assert len(long) < 100
    assert long != key_of(ip, b"a" * 300, b"c" * 300, is_full=True, netmask=mask)


def test_databases(tmp_path: Path) -> None:
    db = GreyDb(str(tmp_path), "m.db", "s.db")
    records = {b"%d" % n: GreyRecord(n % 2 == 0, NOW + n, NOW + 100 + n // 2) for n in range(10)}
    db.put(records.items())
    db.put([(b"3", records[b"3"]._replace(is_white=True))])
    assert db.count == 10
    assert db.get(b"3") == records[b"3"]._replace(is_white=True)
    assert db.get(b"none") is None
    assert db.expired(NOW + 101, 100) == [b"0", b"1", b"2", b"3"]
    assert db.expired(NOW + 101, 3) == [b"0", b"1", b"2"]
    assert db.remove([b"0", b"1", b"gone"]) == 2
    db.close()
    db = GreyDb(str(tmp_path), "m.db", "s.db")
    assert db.count == 8
    assert dict(db.items()) == {**{key: records[key] for key in list(records)[2:]},
                                b"3": records[b"3"]._replace(is_white=True)}
    assert (tmp_path / "m.db").stat().st_mode & 0o777 == 0o600
    db.close()


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


Made = tuple[Greylist, Clock, Callable[..., GreyAnswer]]


@pytest.fixture
def greylist(tmp_path: Path) -> Iterator[Made]:
    clock = Clock()
    made = Greylist(str(tmp_path), "m.db", "s.db", LIMITS, Log("test"), clock)
    made.start()

    def ask(key: bytes, *, is_peek: bool = False) -> GreyAnswer:
        answers: list[GreyAnswer] = []
        made.ask(GreyAsk(key, is_peek), answers.append)
        return until(lambda: answers and answers[0], 10)  # type: ignore[return-value]

    yield made, clock, ask
    made.stop()


def test_thread(greylist: Made) -> None:
    made, clock, ask = greylist
    assert ask(b"a", is_peek=True) == (False, "unknown", 0.0)
    assert made.statistics["entries"] == 0
    assert ask(b"a") == (False, "unknown", 0.0)
    assert ask(b"a") == (False, "greylisted", NOW)
    clock.now += 301
    assert ask(b"a", is_peek=True).may_pass
    assert ask(b"a").state == "confirmed"
    assert ask(b"a").state == "whitelisted"
    assert made.statistics == {"entries": 1, "asked": 6, "passed": 3, "expired": 0}


def test_same_key_twice_in_one_batch(greylist: Made) -> None:
    made, _, ask = greylist
    answers: list[GreyAnswer] = []
    for _ in range(50):
        made.ask(GreyAsk(b"x"), answers.append)
    until(lambda: len(answers) == 50, 10)
    assert not any(answer.may_pass for answer in answers)
    assert ask(b"x").state == "greylisted"


def test_only_expired_entries_go_and_only_beyond_the_limit(greylist: Made) -> None:
    made, clock, ask = greylist
    for number in range(8):
        ask(b"%d" % number)
    clock.now += 301
    ask(b"7")  # whitelisted
    assert made.statistics["entries"] == 8
    clock.now += 3600
    until(lambda: made.statistics["entries"] == LIMITS.entries, 10)
    assert ask(b"7", is_peek=True).state == "whitelisted"
    assert made.statistics["expired"] == 3


def test_damage_is_set_aside_and_trouble_lets_mail_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "grey"
    home.mkdir()
    (home / "m.db").write_bytes(b"nonsense" * 1000)
    made = Greylist(str(home), "m.db", "s.db", LIMITS, Log("test"))
    made.start()
    answers: list[GreyAnswer] = []
    made.ask(GreyAsk(b"a"), answers.append)
    until(lambda: answers, 10)
    assert answers[0].state == "unknown"
    assert [path.name for path in tmp_path.iterdir() if ".damaged." in path.name]

    def fail(self: GreyDb, records: object) -> None:
        raise StoreError("write", "m.db", "full", is_full=True)

    monkeypatch.setattr(GreyDb, "put", fail)
    made.ask(GreyAsk(b"b"), answers.append)
    until(lambda: len(answers) == 2, 10)
    assert answers[1].may_pass
    made.stop()
    closed = Greylist(str(tmp_path / "missing"), "m.db", "s.db", LIMITS, Log("test"))
    closed.start()
    closed.ask(GreyAsk(b"c"), answers.append)
    until(lambda: len(answers) == 3, 10)
    assert answers[2].may_pass
    closed.stop()


def test_a_lost_secondary_database_is_made_anew(tmp_path: Path) -> None:
    db = GreyDb(str(tmp_path), "m.db", "s.db")
    db.put([(b"a", GreyRecord(False, NOW, NOW + 1))])
    db.close()
    for path in tmp_path.iterdir():
        if path.name != "m.db":
            path.unlink()
    db = GreyDb(str(tmp_path), "m.db", "s.db")
    assert db.expired(NOW + 10, 10) == [b"a"]
    db.close()


def test_rate_stays_with_the_size(tmp_path: Path) -> None:
    """The last thousands of 100,000 take about as long as the first; 10 million were tried by hand (docs/bench)."""
    db = GreyDb(str(tmp_path), "m.db", "s.db")
    times = []
    for part in range(10):
        began = time.process_time()
        for first in range(0, 10_000, 500):
            db.put([(b"%d.%d" % ((n * 7919) % 100_003, part), GreyRecord(False, NOW, NOW + n))
                    for n in range(first, first + 500)])
        times.append(time.process_time() - began)
    assert db.count == 100_000
    assert min(times[5:]) < 4 * min(times[:5])
    db.close()
