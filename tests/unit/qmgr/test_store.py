"""The threads that carry out QMGR's disk effects: group commit, refusal, order, what survives an error."""
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meta1g.mta.errors import CorruptRecord, StoreError
from meta1g.mta.ids import ss_id
from meta1g.mta.selection import Picker, Selection
from meta1g.proc.log import Log
from meta1g.proto.msg_ss import Content
from meta1g.qmgr import store
from meta1g.qmgr.effects import (
    Checkpoint,
    DiskFree,
    Done,
    Loaded,
    ReadDefedb,
    RemoveContent,
    RemoveSegment,
    ScanDefedb,
    Scanned,
    WriteDefedb,
    WriteHolds,
    WriteIbdb,
)
from meta1g.qmgr.holds import FILE, Holds, parse
from meta1g.qmgr.store import DefedbThread, IbdbThread
from meta1g.shim import ibdb, layout, smallfile
from meta1g.shim.cdb import ContentDb
from meta1g.shim.defedb import Change, Defedb, Tuning
from meta1g.shim.journal import Entry, JournalWriter
from meta1g.shim.records import IdsGiven
from meta1g.shim.safeio import Disk
from tests.unit.shim.test_stores import deferred, transaction

TA = ss_id(0x1A, 0)


class Reports:
    """What the threads report, one by one."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def __call__(self, items: list[Any]) -> None:
        for item in items:
            if not isinstance(item, DiskFree):
                self.queue.put(item)

    def next(self) -> Any:
        return self.queue.get(timeout=20)


class Refusing(Disk):
    """A disk that can be made to refuse writing or removing."""

    def __init__(self) -> None:
        self.error = ""
        self.unlink_error = ""
        self.tries = threading.Semaphore(0)

    def append(self, fd: int, path: str, buffers: Any) -> int:
        self.tries.release()
        if self.error:
            raise StoreError("write", path, self.error, is_full=self.error == "full")
        return super().append(fd, path, buffers)

    def unlink(self, path: str) -> bool:
        if self.unlink_error:
            raise StoreError("remove", path, self.unlink_error)
        return super().unlink(path)


@pytest.fixture
def ibdb_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[IbdbThread, Refusing, Reports, str]:
    monkeypatch.setattr(store, "_RETRY", 0.05)
    disk, reports, folder = Refusing(), Reports(), str(tmp_path)
    thread = IbdbThread(ibdb.Ibdb(disk, folder, 100), Log("test"), 0.01, 100, reports)
    return thread, disk, reports, folder


Made = tuple[IbdbThread, Refusing, Reports, str]


def read(folder: str) -> list[int]:
    """The ids that are written, without those that files begin with."""
    damage: list[CorruptRecord] = []
    found = [r.last for r in ibdb.read(Disk(), folder, damage.append) if isinstance(r, IdsGiven) and r.last]
    assert damage == []
    return list(dict.fromkeys(found))


def test_order_and_barrier(ibdb_thread: Made) -> None:
    thread, _, reports, folder = ibdb_thread
    thread.put([WriteIbdb((IdsGiven(n),), n) for n in range(1, 5)])
    thread.put([WriteIbdb((), "barrier")])
    thread.start()
    assert [reports.next().then for _ in range(5)] == [1, 2, 3, 4, "barrier"]
    assert read(folder) == [1, 2, 3, 4]
    thread.stop()
    assert (thread.flushes, thread.records) == (1, 5)


def test_refused_writes_are_told_while_kept_ones_wait(ibdb_thread: Made) -> None:
    """A full disk: what must be kept is tried again, and new mail is refused meanwhile, not left waiting."""
    thread, disk, reports, folder = ibdb_thread
    disk.error = "full"
    thread.start()
    thread.put([WriteIbdb((IdsGiven(1),), "kept"), WriteIbdb((IdsGiven(2),), "first", is_urgent=True, may_fail=True)])
    done: Done = reports.next()
    assert (done.then, done.is_full) == ("first", True)
    thread.put([WriteIbdb((IdsGiven(3),), "second", is_urgent=True, may_fail=True)])
    assert reports.next().then == "second"
    assert len(ibdb.files(Disk(), folder)) == 0  # no heap of empty files
    disk.error = ""
    assert reports.next() == Done("kept")
    thread.stop()
    assert read(folder) == [1]


def test_old_files_that_can_not_go_stop_nothing(ibdb_thread: Made) -> None:
    thread, disk, reports, folder = ibdb_thread
    disk.unlink_error = "Permission denied"
    thread.start()
    for n in range(1, 30):
        thread.put([WriteIbdb((IdsGiven(n),), n, is_urgent=True)])
        assert reports.next().then == n
    assert len(ibdb.files(Disk(), folder)) > 3
    disk.unlink_error = ""
    thread.put([WriteIbdb((IdsGiven(30),), 30, is_urgent=True)])
    assert reports.next().then == 30
    thread.stop()
    assert len(ibdb.files(Disk(), folder)) == 1
    assert read(folder)[-1] == 30


def test_stop_with_a_disk_that_refuses(ibdb_thread: Made) -> None:
    thread, disk, _, folder = ibdb_thread
    disk.error = "EIO"
    thread.start()
    thread.put([WriteIbdb((IdsGiven(1),))])
    assert disk.tries.acquire(timeout=20)
    stopper = threading.Thread(target=thread.stop)
    stopper.start()
    for _ in range(3):
        assert disk.tries.acquire(timeout=20)
    disk.error = ""
    stopper.join(20)
    assert not stopper.is_alive()
    assert read(folder) == [1]


def defedb_thread(tmp_path: Path, reports: Callable[[list[Any]], None]) -> tuple[DefedbThread, ContentDb]:
    layout.create("queue", str(tmp_path), None)
    cdb = ContentDb(Disk(), f"{tmp_path}/")
    home = tmp_path / "env"
    home.mkdir()
    db = Defedb(str(home), Tuning(1 << 20))
    return DefedbThread(db, cdb, Log("test"), reports, checkpoint_delay=0.0, removes_logs=True), cdb


def test_defedb_keeps_the_order(tmp_path: Path) -> None:
    reports = Reports()
    thread, cdb = defedb_thread(tmp_path, reports)
    (place,) = JournalWriter(Disk(), f"{tmp_path}/").write([Entry(TA, [b"content"])])
    writer = cdb.writer(TA)
    writer.commit()
    thread.start()
    thread.put([
        WriteDefedb(Change((transaction(TA), deferred(TA, 0), deferred(TA, 1))), "put"), ReadDefedb(TA, (0, 1)),
        WriteDefedb(Change((), ((TA, 0),)), "deleted"), WriteDefedb(Change(), "nothing"), ReadDefedb(TA, (0, 1)),
        ReadDefedb(ss_id(9, 9), (0,)), RemoveContent(TA, Content(0, 0, "")), RemoveContent(TA, place),
        RemoveSegment(place.segment), WriteDefedb(Change(), "end")])
    found = [reports.next() for _ in range(7)]
    assert [item.then for item in found if isinstance(item, Done)] == ["put", "deleted", "nothing", "end"]
    loads = [item for item in found if isinstance(item, Loaded)]
    assert [len(load.rcpts) for load in loads] == [2, 1, 0]
    assert [load.idxs for load in loads] == [(0, 1), (0, 1), (0,)]
    assert (loads[2].ta, loads[2].lost, loads[2].error) == (None, (), "")
    assert [load.total for load in loads] == [2, 1, 0]
    assert not cdb.has_file(TA)
    assert cdb.disk.names(f"{tmp_path}/journal") == []
    thread.stop()
    again = Defedb(str(tmp_path / "env"), Tuning(1 << 20))
    assert [rcpt.idx for rcpt in again.load(TA, [0, 1]).rcpts] == [1]
    again.close()


def test_defedb_tries_until_it_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_RETRY", 0.01)
    reports = Reports()
    thread, _ = defedb_thread(tmp_path, reports)
    write, refusals = thread.db.write, [StoreError("write", "x", "full")] * 3

    def refuse(changes: Any) -> None:
        if refusals:
            raise refusals.pop()
        write(changes)

    monkeypatch.setattr(thread.db, "write", refuse)
    monkeypatch.setattr(thread.db, "load", lambda ta, idxs: (_ for _ in ()).throw(StoreError("read", "x", "EIO")))
    thread.start()
    thread.put([WriteDefedb(Change((transaction(TA),)), "put"), ReadDefedb(TA, (3,)),
                RemoveSegment("../nonsense/x"), WriteDefedb(Change(), "end")])
    assert reports.next() == Done("put")
    assert reports.next() == Loaded(TA, (3,), lost=(3,), error="read x: EIO")
    assert reports.next() == Done("end")
    thread.stop()


def test_defedb_is_looked_through_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_SCAN_MAX", 2)
    reports = Reports()
    thread, _ = defedb_thread(tmp_path, reports)
    others = [deferred(TA, idx)._replace(hops=()) for idx in (1, 3)]
    thread.db.write([Change((transaction(TA), deferred(TA, 0), deferred(TA, 2), *others, deferred(TA, 4)))])
    thread.start()
    picker = Picker(Selection(sites=("mx",)))
    found: list[tuple[str, int]] = []
    start, pieces = b"", 0
    while pieces == 0 or start:
        thread.put([ScanDefedb(picker, start, "then")])
        report = reports.next()
        assert isinstance(report, Scanned)
        assert report.then == "then"
        assert report.addresses <= {("192.0.2.1", 25)}
        found += report.found
        start, pieces = report.next, pieces + 1
    assert (found, pieces) == ([(TA, 0), (TA, 2), (TA, 4)], 3)
    thread.put([WriteDefedb(Change((), ((TA, 0),)), "no cursor is left that would keep this back")])
    assert isinstance(reports.next(), Done)
    thread.stop()


def test_a_checkpoint_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It follows what was written before it, and is told when readers can see that."""
    monkeypatch.chdir(tmp_path)
    reports = Reports()
    thread, _ = defedb_thread(tmp_path, reports)
    seen: list[int] = []
    monkeypatch.setattr(thread.db, "checkpoint", lambda **_: seen.append(thread.transactions))
    thread.put([Checkpoint("nothing new"), WriteDefedb(Change((transaction(TA),)), "put"), Checkpoint("then")])
    thread.start()
    assert [reports.next() for _ in range(3)] == [Done("nothing new"), Done("put"), Done("then")]
    assert seen == [1]
    thread.stop()


def test_holds_are_stored_or_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    reports = Reports()
    thread, _ = defedb_thread(tmp_path, reports)
    thread.start()
    held = Holds(False, frozenset({"mx.test"}))
    for wanted in (Holds(True), held):
        thread.put([WriteHolds(wanted, "then")])
        assert reports.next() == Done("then")
    assert parse(smallfile.read(Disk(), FILE).decode()) == held
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).mkdir()
    thread.put([WriteHolds(held, "then")])
    assert "directory" in reports.next().error
    thread.stop()
