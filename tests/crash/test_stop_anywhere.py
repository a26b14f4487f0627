"""Content journal, IBDB and recovery, stopped at every storage call: what was promised is there."""
import random
from typing import Any

import pytest

from meta1g.mta.errors import CorruptRecord, StoreError, TornTail
from meta1g.mta.ids import ss_id
from meta1g.proto.msg_ss import Content
from meta1g.qmgr.recover import Found, recover
from meta1g.shim import ibdb
from meta1g.shim.cdb import ContentDb
from meta1g.shim.journal import Entry, JournalWriter
from meta1g.shim.records import IdsGiven, Outcome, RcptEnd, RcptRec, RcptsAdded, TaNew
from tests.crash.disk import FakeDisk, Stopped

FOLDER = "ibdb/ibdb"
LARGE = 3  # this message gets a file of its own


class NoDefedb:
    """DEFEDB without entries; it has its own recovery."""

    path = "defedb"

    def __init__(self) -> None:
        self.written: list[Any] = []

    def write(self, changes: list[Any]) -> None:
        self.written += changes

    def loaded(self, on_damage: object) -> list[Any]:
        return []


def content_of(number: int) -> bytes:
    return b"message %d\r\n" % number * 3


def begin(ta: str, place: Content) -> TaNew:
    rcpts = tuple(RcptRec(idx, False, False, b"r%d@x" % idx, b"", b"") for idx in range(2))
    return TaNew(1.0, 10, False, False, ta, "", b"a@b", b"", "", rcpts, (place,), ())


class Run:
    """Six messages are accepted; the first ones are delivered and their content removed."""

    def __init__(self, disk: FakeDisk) -> None:
        self.disk = disk
        self.promised: dict[str, int] = {}
        self.ended: set[tuple[str, int]] = set()
        self.ending: set[tuple[str, int]] = set()

    def play(self) -> None:
        cdb = ContentDb(self.disk, "")  # type: ignore[arg-type]
        journal = JournalWriter(self.disk, "")  # type: ignore[arg-type]
        log = ibdb.Ibdb(self.disk, FOLDER, 300)  # type: ignore[arg-type]
        log.write([IdsGiven(100)])
        for number in range(1, 7):
            ta = ss_id(number, 0)
            if number == LARGE:
                writer = cdb.writer(ta)
                head = content_of(number)[:100]
                writer.append(bytes(len(head)))
                writer.append(content_of(number)[len(head):])
                writer.fill(0, head)  # as a signature that is known last
                writer.commit()
                place = Content(0, writer.size, "")
            else:
                (place,) = journal.write([Entry(ta, [content_of(number)])])
            log.write([begin(ta, place)])
            self.promised[ta] = number
            if number > 2:
                self._end(log, cdb, ss_id(number - 2, 0))
            log.remove_old()

    def _end(self, log: ibdb.Ibdb, cdb: ContentDb, ta: str) -> None:
        self.ending |= {(ta, 0), (ta, 1)}
        log.write([RcptEnd(0, Outcome.DELIVERED, False, ta), RcptEnd(1, Outcome.DELIVERED, True, ta)])
        self.ended |= {(ta, 0), (ta, 1)}
        cdb.unlink(ta)


def recovered(disk: FakeDisk) -> tuple[Found, list[CorruptRecord]]:
    damage: list[CorruptRecord] = []
    cdb = ContentDb(disk, "")  # type: ignore[arg-type]
    found = recover(disk, FOLDER, NoDefedb(), cdb, damage.append)  # type: ignore[arg-type]
    log = ibdb.Ibdb(disk, FOLDER, 300)  # type: ignore[arg-type]
    log.forget_before(found.keep)
    return found, damage


def check(run: Run, disk: FakeDisk) -> None:
    found, damage = recovered(disk)
    assert all(isinstance(error, TornTail) for error in damage), damage
    open_rcpts = {(ta.ta, idx) for ta in found.fresh for idx in ta.rcpts}
    promised = {(ta, idx) for ta in run.promised for idx in range(2)}
    assert promised - run.ending <= open_rcpts, "a promised recipient is lost"
    assert not run.ended & open_rcpts, "an ended recipient came back"
    cdb = ContentDb(disk, "")  # type: ignore[arg-type]
    for ta in found.fresh:
        number = run.promised.get(ta.ta)
        octets = b"".join(cdb.pieces(ta.ta, ta.content))
        assert number is None or octets == content_of(number)
    disk = disk.lose_power(0.0)
    again, damage = recovered(disk)
    assert damage == []
    left = ContentDb(disk, "").transactions()  # type: ignore[arg-type]
    assert all(ta in {fresh.ta for fresh in again.fresh} for ta in left), "an orphan stayed"
    assert {ta.ta for ta in again.fresh} == {ta.ta for ta in found.fresh}, "recovery itself is not durable"


def calls_of_a_whole_run() -> int:
    disk = FakeDisk()
    Run(disk).play()
    return disk.calls


CALLS = calls_of_a_whole_run()


@pytest.mark.parametrize("keep", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("stop_at", range(1, CALLS + 2))
def test_stop_at_each_call(stop_at: int, keep: float) -> None:
    run, disk = stopped(stop_at)
    check(run, disk.lose_power(keep))


@pytest.mark.parametrize("stop_at", range(1, CALLS + 2))
def test_stop_at_each_call_and_lose_anything(stop_at: int) -> None:
    """Any part of what was not flushed is there afterwards, in any combination."""
    for seed in range(30):
        run, disk = stopped(stop_at)
        check(run, disk.lose_power(0.0, random.Random(seed)))


@pytest.mark.parametrize("seed", range(30))
def test_recovery_stopped_at_each_call(seed: int) -> None:
    """Power goes again while an earlier crash is being mended."""
    luck = random.Random(seed)
    run, disk = stopped(luck.randrange(1, CALLS + 2))
    disk = disk.lose_power(0.0, luck)
    for stop_at in range(1, 40):
        disk.calls, disk.stop_at = 0, stop_at
        try:
            recovered(disk)
        except Stopped:
            disk = disk.lose_power(0.0, luck)
            continue
        break
    check(run, disk.lose_power(0.0, luck))


def stopped(stop_at: int) -> tuple[Run, FakeDisk]:
    """A run that ends at this storage call."""
    disk = FakeDisk()
    disk.stop_at = stop_at
    run = Run(disk)
    try:
        run.play()
    except Stopped:
        pass
    return run, disk


def test_the_model_sees_a_missing_flush() -> None:
    """With flushes switched off something must be lost, or these tests prove nothing."""
    disk = FakeDisk()
    disk.ignores = lambda action, path: True
    run = Run(disk)
    run.play()
    with pytest.raises(AssertionError, match="lost"):
        check(run, disk.lose_power(0.0))


@pytest.mark.parametrize("fail_at", range(1, CALLS + 1))
def test_error_at_each_call_breaks_no_promise(fail_at: int) -> None:
    """EIO anywhere: what was promised before is there; a file whose flush failed is not written on."""
    disk = FakeDisk()
    disk.fail_at = fail_at
    run = Run(disk)
    with pytest.raises(StoreError):
        run.play()
    check(run, disk.lose_power(0.0))


def test_damage_in_the_middle_costs_one_record() -> None:
    disk = FakeDisk()
    log = ibdb.Ibdb(disk, FOLDER, 1 << 20)  # type: ignore[arg-type]
    for number in range(1, 4):
        log.write([begin(ss_id(number, 0), Content(0, 1, ""))])
    path = f"{FOLDER}/00000001.ibdb"
    data = disk.data[disk.entries[path]]
    at = data.index(ss_id(2, 0).encode())
    data[at] ^= 1
    damage: list[CorruptRecord] = []
    found = [r.ta for r in ibdb.read(disk, FOLDER, damage.append) if isinstance(r, TaNew)]  # type: ignore[arg-type]
    assert found == [ss_id(1, 0), ss_id(3, 0)]
    assert [(error.path, error.offset < at, "checksum" in error.reason) for error in damage] == [(path, True, True)]


def test_unknown_version_is_told_and_skipped() -> None:
    disk = FakeDisk()
    log = ibdb.Ibdb(disk, FOLDER, 1 << 20)  # type: ignore[arg-type]
    log.write([IdsGiven(5)])
    data = disk.data[disk.entries[f"{FOLDER}/00000001.ibdb"]]
    data[4] = 99
    damage: list[CorruptRecord] = []
    assert list(ibdb.read(disk, FOLDER, damage.append)) == []  # type: ignore[arg-type]
    assert "version" in damage[0].reason


def test_old_files_stay_while_anything_in_or_before_them_lives() -> None:
    disk = FakeDisk()
    log = ibdb.Ibdb(disk, FOLDER, 100)  # type: ignore[arg-type]
    for number in range(1, 5):
        log.write([begin(ss_id(number, 0), Content(0, 1, ""))])
    for number in (2, 3, 4):
        log.write([RcptEnd(0, 1, False, ss_id(number, 0)), RcptEnd(1, 1, True, ss_id(number, 0))])
    assert log.remove_old() == 0
    log.write([RcptsAdded(0, ss_id(1, 0), ()), RcptEnd(1, 1, True, ss_id(1, 0))])
    assert log.remove_old() > 3
    assert log.live == 0
    assert list(ibdb.files(disk, FOLDER))  # type: ignore[arg-type]
