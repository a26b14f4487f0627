"""The threads that carry out the decider's disk effects: one for IBDB, one for DEFEDB (design 3).

Rules
    A thread takes all that waits, writes it in one piece with one flush, and reports.
    A write that may not fail is tried again until the disk takes it; the order stays.
"""
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from meta1g.mta.errors import CorruptRecord, StoreError
from meta1g.proc.log import Log
from meta1g.qmgr import holds
from meta1g.qmgr.effects import (
    Checkpoint,
    DiskEffect,
    DiskFree,
    Done,
    Loaded,
    ReadDefedb,
    RemoveContent,
    RemoveSegment,
    ScanDefedb,
    Scanned,
    SurveyDefedb,
    Surveyed,
    WriteDefedb,
    WriteHolds,
    WriteIbdb,
)
from meta1g.shim import journal, smallfile
from meta1g.shim.cdb import ContentDb
from meta1g.shim.defedb import Defedb, Waiting
from meta1g.shim.ibdb import Ibdb
from meta1g.shim.records import DeferredRcpt

_RETRY: Final = 1.0  # seconds until a refused write is tried again
_BATCH_MAX: Final = 2000  # DEFEDB operations in one Berkeley DB transaction: bounds its locks and log
_SCAN_MAX: Final = 1000  # recipients that are looked at before other work has its turn: 15 ms
_LAZY_WAIT: Final = 0.5  # seconds an idle thread waits before it looks at the clock
_STOP: Final = None

Report = Callable[[list[Any]], None]


class IbdbThread:
    """Group commit of IBDB. `commit_delay` (seconds) is how long a record that nobody waits for may wait."""

    def __init__(self, ibdb: Ibdb, log: Log, commit_delay: float, records_max: int, report: Report) -> None:
        self._ibdb = ibdb
        self._log = log
        self._delay = commit_delay
        self._records_max = records_max
        self._report = report
        self._inbox: queue.SimpleQueue[list[WriteIbdb] | None] = queue.SimpleQueue()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="ibdb", daemon=True)
        self.flushes = 0
        self.records = 0

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, writes: list[WriteIbdb]) -> None:
        """Write these, in order."""
        self._inbox.put(writes)

    def stop(self) -> None:
        """Write what waits and end."""
        self._inbox.put(_STOP)
        self._thread.join(30.0)

    def _run(self) -> None:
        while not self._is_stopping:
            writes = self._collect()
            if writes:
                self._write(writes)
                self._tend(self._ibdb.remove_old)
        self._tend(self._ibdb.close)

    def _collect(self) -> list[WriteIbdb]:
        """All that waits; if nothing of it is urgent, what comes within the delay too."""
        writes: list[WriteIbdb] = []
        deadline = 0.0
        while True:
            try:
                timeout = max(deadline - time.monotonic(), 0.0) if writes else None
                more = self._inbox.get(timeout=timeout) if timeout != 0.0 else self._inbox.get_nowait()
            except queue.Empty:
                return writes
            if more is _STOP:
                self._is_stopping = True
                return writes
            if not writes:
                deadline = time.monotonic() + self._delay
            writes += more
            if len(writes) >= self._records_max:
                return writes
            if deadline and any(write.is_urgent for write in more):
                deadline = 0.0

    def _write(self, writes: list[WriteIbdb]) -> None:
        while True:
            try:
                records = [record for write in writes for record in write.records]
                if records:
                    self._ibdb.write(records)
                break
            except StoreError as error:
                self._log.error(f"func=ibdb, status={error}")
                failed = [write for write in writes if write.may_fail]
                writes = [write for write in writes if not write.may_fail]
                self._report([Done(write.then, str(error), error.is_full) for write in failed])
                if not writes:
                    return
                writes += self._more()
        self.flushes += 1
        self.records += len(writes)
        done = [Done(write.then) for write in writes if write.then is not None]
        if done:
            self._report(done)

    def _more(self) -> list[WriteIbdb]:
        """What comes until the disk is tried again: who may be refused must not wait for it to recover."""
        try:
            more = self._inbox.get(timeout=_RETRY)
        except queue.Empty:
            return []
        if more is _STOP:
            self._is_stopping = True
            time.sleep(_RETRY)
            return []
        return more

    def _tend(self, work: Callable[[], object]) -> None:
        try:
            work()
        except StoreError as error:
            self._log.error(f"func=ibdb, status={error}")


def scanned(effect: ScanDefedb, rcpts: list[DeferredRcpt], more: bytes) -> Scanned:
    """What is picked of these recipients."""
    picked = [rcpt for rcpt in rcpts if effect.picker.picks(
        rcpt.ta, rcpt.idx, rcpt.address, [name for hop in rcpt.hops for name in (hop.name, hop.ip)])]
    addresses = frozenset((hop.ip, hop.port) for rcpt in picked for hop in rcpt.hops)
    return Scanned(effect.then, tuple((rcpt.ta, rcpt.idx) for rcpt in picked), addresses, more)


def surveyed(effect: SurveyDefedb, rcpts: list[Waiting], more: bytes) -> Surveyed:
    """What is wanted of these recipients."""
    return Surveyed(tuple(rcpt for rcpt in rcpts if rcpt >= effect.since and (
        effect.until is None or rcpt < effect.until)), effect.since, more)


class DefedbThread:
    """DEFEDB's transactions and the removal of content, both off the path of fresh mail."""

    def __init__(self, defedb: Defedb, cdb: ContentDb, log: Log, report: Report, *,
                 checkpoint_delay: float, checkpoint_kbytes: int = 0, removes_logs: bool) -> None:
        self.db = defedb
        self._cdb = cdb
        self._log = log
        self._report = report
        self._checkpoint_delay = checkpoint_delay
        self._checkpoint_kbytes = checkpoint_kbytes
        self._removes_logs = removes_logs
        self._inbox: queue.SimpleQueue[list[DiskEffect] | None] = queue.SimpleQueue()
        self._removals: list[RemoveContent | RemoveSegment] = []  # that the disk refused
        self._is_dirty = False
        self._checkpointed = time.monotonic()
        self._measured = 0.0
        self._thread = threading.Thread(target=self._run, name="defedb", daemon=True)
        self.transactions = 0

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def put(self, effects: list[DiskEffect]) -> None:
        """Carry these out, in order."""
        self._inbox.put(effects)

    def stop(self) -> None:
        """Carry out what waits, checkpoint and end."""
        self._inbox.put(_STOP)
        self._thread.join(60.0)

    def _run(self) -> None:
        while True:
            effects = self._collect()
            if effects is None:
                break
            self._carry_out(effects)
            self._tend()
        self.db.close()

    def _collect(self) -> list[DiskEffect] | None:
        try:
            effects = self._inbox.get(timeout=_LAZY_WAIT)
        except queue.Empty:
            return []
        while effects is not None and len(effects) < _BATCH_MAX:
            try:
                more = self._inbox.get_nowait()
            except queue.Empty:
                break
            if more is None:
                self._inbox.put(None)
                break
            effects = effects + more
        return effects

    def _carry_out(self, effects: list[DiskEffect]) -> None:
        writes: list[WriteDefedb] = []
        for effect in effects:
            if isinstance(effect, WriteDefedb):
                writes.append(effect)
                continue
            self._write(writes)
            writes = []
            if isinstance(effect, ReadDefedb):
                self._read(effect)
            elif isinstance(effect, ScanDefedb):
                self._scan(effect)
            elif isinstance(effect, SurveyDefedb):
                self._survey(effect)
            elif isinstance(effect, WriteHolds):
                self._write_holds(effect)
            elif isinstance(effect, Checkpoint):
                self._show(effect)
            else:
                self._remove(effect)
        self._write(writes)

    def _write(self, writes: list[WriteDefedb]) -> None:
        changes = [write.change for write in writes if any(write.change)]
        while changes:
            try:
                self.db.write(changes)
                self.transactions += 1
                self._is_dirty = True
                break
            except StoreError as error:
                self._log.error(f"func=defedb, status={error}")
                time.sleep(_RETRY)
        done = [Done(write.then) for write in writes if write.then is not None]
        if done:
            self._report(done)

    def _read(self, effect: ReadDefedb) -> None:
        try:
            found = self.db.load(effect.ta, effect.idxs)
            self._report([Loaded(effect.ta, effect.idxs, found.ta, tuple(found.rcpts), found.total,
                                 tuple(found.damaged), "damaged" if found.damaged else "")])
        except (StoreError, CorruptRecord) as error:
            self._report([Loaded(effect.ta, effect.idxs, lost=effect.idxs, error=str(error))])

    def _scan(self, effect: ScanDefedb) -> None:
        try:
            rcpts, more = self.db.scan(effect.start, _SCAN_MAX)
        except StoreError as error:
            self._report([Scanned(effect.then, (), frozenset(), b"", str(error))])
            return
        self._report([scanned(effect, rcpts, more)])

    def _survey(self, effect: SurveyDefedb) -> None:
        try:
            found, more = self.db.survey(effect.start, _SCAN_MAX)
            self._report([surveyed(effect, found, more)])
        except StoreError as error:
            self._report([Surveyed((), effect.since, b"", str(error))])

    def _write_holds(self, effect: WriteHolds) -> None:
        try:
            smallfile.replace(self._cdb.disk, holds.FILE, str(effect.holds).encode())
            self._report([Done(effect.then)])
        except StoreError as error:
            self._report([Done(effect.then, str(error), error.is_full)])

    def _show(self, effect: Checkpoint) -> None:
        try:
            if self._is_dirty:
                self.db.checkpoint(removes_logs=self._removes_logs)
                self._is_dirty, self._checkpointed = False, time.monotonic()
            self._report([Done(effect.then)])
        except StoreError as error:
            self._report([Done(effect.then, str(error), error.is_full)])

    def _remove(self, effect: RemoveContent | RemoveSegment) -> None:
        try:
            if isinstance(effect, RemoveSegment):
                self._cdb.disk.unlink(f"{self._cdb.base}{journal.FOLDER}/{effect.segment}")
            elif not effect.content.segment or self._cdb.has_file(effect.ta):
                self._cdb.unlink(effect.ta)
        except StoreError as error:
            self._log.error(f"func=cdb, status={error}")
            self._removals.append(effect)

    def _tend(self) -> None:
        now = time.monotonic()
        if self._is_dirty and now - self._checkpointed >= self._checkpoint_delay:
            try:
                self.db.checkpoint(removes_logs=self._removes_logs, kbytes=self._checkpoint_kbytes)
            except StoreError as error:
                self._log.error(f"func=defedb, status={error}")
            self._is_dirty, self._checkpointed = self._checkpoint_kbytes > 0, now
        if now - self._measured >= 1.0:
            self._measured = now
            removals, self._removals = self._removals, []
            for effect in removals:
                self._remove(effect)
            try:
                self._report([DiskFree(self._cdb.disk.free(self._cdb.base or "."))])
            except StoreError as error:
                self._log.error(f"func=disk, status={error}")
