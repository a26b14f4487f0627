"""The greylisting thread: judges clients against the databases, and drops who has expired.

Rules
    All that wait are judged in one transaction. Expired entries go when nobody waits, and only if
    there are more than expire_limit (M1 3.9.4).
    Greylisting is no wall: when the databases can't be used mail passes, and the log says why.
"""
import contextlib
import os
import queue
import shutil
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from meta1g.mta.errors import CorruptRecord, CorruptStore, StoreError
from meta1g.proc.log import Log
from meta1g.shim.greydb import GreyDb, GreyRecord
from meta1g.smar.ask import GreyAnswer, GreyAsk
from meta1g.smar.grey import Entry, Limits, judge

_IDLE: Final = 0.5  # seconds without questions until expired entries are looked for
_BATCH: Final = 500  # questions, or entries to remove, in one transaction: bounds its locks
_CHECKPOINT: Final = 60.0  # seconds between two
PASSES: Final = GreyAnswer(True, "not available", 0.0)

Callback = Callable[[GreyAnswer], None]


class Greylist:
    """The thread and its databases. `clock` gives seconds since 1970."""

    def __init__(self, home: str, main: str, secondary: str, limits: Limits, log: Log,
                 clock: Callable[[], float] = time.time) -> None:
        self._limits = limits
        self._log = log
        self._clock = clock
        self._inbox: queue.SimpleQueue[tuple[GreyAsk, Callback] | None] = queue.SimpleQueue()
        self._checkpointed = clock()
        self._is_dirty = False
        self._db = self._open(home, main, secondary)
        self._thread = threading.Thread(target=self._run, name="greylist", daemon=True)
        self.counts = {"asked": 0, "passed": 0, "expired": 0}

    def _open(self, home: str, main: str, secondary: str) -> GreyDb | None:
        try:
            try:
                return GreyDb(home, main, secondary)
            except CorruptStore as error:
                self._set_aside(home, error)
                return GreyDb(home, main, secondary)
        except StoreError as error:
            self._log.error(f"func=greylist, status=mail passes without greylisting, reason={error}")
            return None

    def _set_aside(self, home: str, reason: CorruptStore) -> None:
        aside = f"{home}.damaged.{int(self._clock())}"
        self._log.error(f"func=greylist, status=begun anew, old={aside}, reason={reason}")
        with contextlib.suppress(OSError):
            shutil.copytree(home, aside)
            for name in os.listdir(home):
                os.unlink(os.path.join(home, name))

    def start(self) -> None:
        """Begin to judge."""
        self._thread.start()

    def stop(self) -> None:
        """Judge what waits, close the databases and end."""
        self._inbox.put(None)
        self._thread.join(30.0)

    def ask(self, question: GreyAsk, callback: Callback) -> None:
        """Have `callback` called with the answer, from the thread; any thread may ask."""
        self._inbox.put((question, callback))

    @property
    def statistics(self) -> dict[str, Any]:
        """Counters (M1 9.4)."""
        return {"entries": self._db.count if self._db else 0, **self.counts}

    def _run(self) -> None:
        is_open = True
        while is_open:
            asked, is_open = self._collect()
            if asked:
                self._judge(asked)
            else:
                self._tend()
        if self._db is not None:
            try:
                self._db.close()
            except StoreError as error:
                self._log.error(f"func=greylist, status={error}")

    def _collect(self) -> tuple[list[tuple[GreyAsk, Callback]], bool]:
        asked: list[tuple[GreyAsk, Callback]] = []
        try:
            item = self._inbox.get(timeout=_IDLE)
            while item is not None:
                asked.append(item)
                if len(asked) >= _BATCH:
                    return asked, True
                item = self._inbox.get_nowait()
        except queue.Empty:
            return asked, True
        return asked, False

    def _judge(self, asked: list[tuple[GreyAsk, Callback]]) -> None:
        now = self._clock()
        fresh: dict[bytes, Entry] = {}
        try:
            answers = [self._judge_one(question, now, fresh) for question, _ in asked]
            if fresh and self._db is not None:
                self._db.put([(key, GreyRecord(entry.is_white, entry.since, entry.expires(self._limits)))
                              for key, entry in fresh.items()])
                self._is_dirty = True
        except StoreError as error:
            self._log.error(f"func=greylist, status=mail passes without greylisting, reason={error}")
            answers = [PASSES] * len(asked)
        self.counts["asked"] += len(asked)
        self.counts["passed"] += sum(answer.may_pass for answer in answers)
        for (_, callback), answer in zip(asked, answers, strict=True):
            callback(answer)

    def _judge_one(self, question: GreyAsk, now: float, fresh: dict[bytes, Entry]) -> GreyAnswer:
        if self._db is None:
            return PASSES
        entry = fresh.get(question.key) or self._entry(self._db, question.key)
        judgement = judge(entry, now, self._limits)
        if judgement.write is not None and not question.is_peek:
            fresh[question.key] = judgement.write
        return GreyAnswer(judgement.may_pass, judgement.state, entry.since if entry is not None else 0.0)

    def _entry(self, db: GreyDb, key: bytes) -> Entry | None:
        try:
            record = db.get(key)
        except CorruptRecord as error:
            self._log.error(f"func=greylist, status={error}")
            return None
        return None if record is None else Entry(record.is_white, record.since)

    def _tend(self) -> None:
        """Nobody waits: drop some who have expired, write a checkpoint now and then."""
        db, now = self._db, self._clock()
        if db is None:
            return
        try:
            surplus = db.count - self._limits.entries
            if surplus > 0:
                removed = db.remove(db.expired(now, min(surplus, _BATCH)))
                self.counts["expired"] += removed
                self._is_dirty = self._is_dirty or removed > 0
            if self._is_dirty and now - self._checkpointed >= _CHECKPOINT:
                self._is_dirty, self._checkpointed = False, now
                db.checkpoint()
        except StoreError as error:
            self._log.error(f"func=greylist, status={error}")
