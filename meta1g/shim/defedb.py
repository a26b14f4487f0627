"""DEFEDB, the deferred envelope database: a Berkeley DB environment (M1 7.1, 8.3).

Rules
    One btree holds transactions (`T` + id) and recipients (`R` + id + `-` + index), each
    value a version octet and a record of `shim.records`. QMGR alone writes it.
    Readers open the file without the environment and see what was checkpointed (M1 4.7.2).

Files
    defedb/: 0700 meta1q: `defedb.db`, Berkeley DB's logs and region files.
"""
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from meta1g.mta.errors import CorruptRecord, FrameError
from meta1g.mta.ids import rcpt_id
from meta1g.shim.bdb import Env, Table, Txn, open_readonly
from meta1g.shim.records import DEFEDB_CODEC, VERSION, DeferredRcpt, DeferredTa

FILE: Final = "defedb.db"
_VERSION: Final = bytes([VERSION])

Entry = DeferredTa | DeferredRcpt


def _ta_key(ta: str) -> bytes:
    return b"T" + ta.encode("ascii")


def _rcpt_key(ta: str, idx: int) -> bytes:
    return b"R" + rcpt_id(ta, idx).encode("ascii")


class Change(NamedTuple):
    """What to put, which recipients to delete, which transactions have `ended` (their record goes),
    and whose content has `settled` in its own file."""

    puts: tuple[Entry, ...] = ()
    deletes: tuple[tuple[str, int], ...] = ()
    ended: tuple[str, ...] = ()
    settled: tuple[str, ...] = ()


class Defedb:
    """The writer's view; one thread uses it."""

    def __init__(self, home: str, cache_size: int) -> None:
        self._home = home
        self._path = os.path.join(home, FILE)
        self.is_new = not os.path.exists(self._path)
        self._env = Env(home, cache_size=cache_size, mode=0o600)
        self._table = self._env.btree(FILE)

    def write(self, changes: Sequence[Change]) -> None:
        """Make all changes, in order, in one transaction. StoreError: nothing of it happened."""

        def work(txn: Txn) -> None:
            for change in changes:
                self._apply(change, txn)

        self._env.transact(work)

    def _apply(self, change: Change, txn: Txn) -> None:
        for entry in change.puts:
            key = _ta_key(entry.ta) if isinstance(entry, DeferredTa) else _rcpt_key(entry.ta, entry.idx)
            self._table.put(key, _VERSION + DEFEDB_CODEC.encode(entry), txn)
        for ta, idx in change.deletes:
            self._table.delete(_rcpt_key(ta, idx), txn)
        for ta in change.ended:
            self._table.delete(_ta_key(ta), txn)
        for ta in change.settled:
            self._settle(ta, txn)

    def _settle(self, ta: str, txn: Txn) -> None:
        value = self._table.get(_ta_key(ta), txn)
        if value is None:
            return
        entry = _decode(self._path, value)
        if isinstance(entry, DeferredTa):
            content = tuple(place._replace(segment="", offset=0) for place in entry.content)
            self._table.put(_ta_key(ta), _VERSION + DEFEDB_CODEC.encode(entry._replace(content=content)), txn)

    def load(self, ta: str, idxs: Sequence[int]) -> tuple[DeferredTa | None, list[DeferredRcpt]]:
        """A transaction and those of its recipients that are there intact.

        StoreError; CorruptRecord if the transaction's own record is damaged.
        """
        value = self._table.get(_ta_key(ta))
        if value is None:
            return None, []
        found = _decode(self._path, value)
        rcpts = []
        for idx in idxs:
            value = self._table.get(_rcpt_key(ta, idx))
            try:
                entry = _decode(self._path, value) if value is not None else None
            except CorruptRecord:
                continue  # it must not keep the others back
            if isinstance(entry, DeferredRcpt):
                rcpts.append(entry)
        return (found if isinstance(found, DeferredTa) else None), rcpts

    def entries(self, on_damage: Callable[[CorruptRecord], None]) -> Iterator[Entry]:
        """Everything, recipients before transactions; damage is told and skipped."""
        return _entries(self._table, self._path, on_damage)

    def checkpoint(self, *, removes_logs: bool) -> None:
        """Make recovery short and let readers see what was written."""
        self._env.checkpoint()
        if removes_logs:
            self._env.remove_logs()

    def close(self) -> None:
        """Close after a last checkpoint."""
        self._env.checkpoint()
        self._table.close()
        self._env.close()


def read_file(home: str, on_damage: Callable[[CorruptRecord], None]) -> Iterator[Entry]:
    """What the file of a DEFEDB shows to a reader that must not disturb QMGR."""
    path = os.path.join(home, FILE)
    table = open_readonly(path)
    try:
        yield from _entries(table, path, on_damage)
    finally:
        table.close()


def _entries(table: Table, path: str, on_damage: Callable[[CorruptRecord], None]) -> Iterator[Entry]:
    for key, value in table.items():
        try:
            entry = _decode(path, value)
        except CorruptRecord as error:
            on_damage(CorruptRecord(path, 0, f"record {key!r}: {error.reason}"))
            continue
        yield entry


def _decode(path: str, value: bytes) -> Entry:
    if value[:1] != _VERSION:
        raise CorruptRecord(path, 0, f"record of unknown version {value[:1].hex()}")
    try:
        return DEFEDB_CODEC.decode(value[1:])  # type: ignore[return-value]
    except FrameError as error:
        raise CorruptRecord(path, 0, str(error)) from None
