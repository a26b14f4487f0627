"""What DEFEDB holds as QMGR starts: it is gone through once, with a transaction at a time in memory.

Rules
    Of mail that only DEFEDB knows there stays what EDBC has room for, and eight octets a transaction.
    Transactions and recipients come and go together: where one is alone, damage took the other. A recipient that is
    alone goes, so that `queue repair` can put its whole message back. A DSN that IBDB has ends its recipients, also
    where the crash came before DEFEDB heard of it.
"""
from array import array
from bisect import bisect_left
from collections.abc import Callable
from typing import Final, NamedTuple

from meta1g.mta.errors import CorruptRecord
from meta1g.mta.ids import ta_counter
from meta1g.proto.msg_ss import Content
from meta1g.qmgr.edbc import Edbc
from meta1g.shim.defedb import Change, Defedb, Group, Waiting
from meta1g.shim.records import DeferredTa

_DELETES_MAX: Final = 1000  # recipients in one Berkeley DB transaction: bounds its locks
Report = Callable[[CorruptRecord], None]


class Known(NamedTuple):
    """What IBDB says of mail that may be in DEFEDB: the first index that was never used, whose transaction it knows
    besides, whose recipients a DSN has ended and which ones."""

    next_idx: dict[str, int]
    names: set[str]
    origins: set[str]
    bounced: set[tuple[str, int]]


class Survey:
    """What was found: EDBC, how many recipients and transactions, which recipients IBDB's transactions have there, and
    content that lies in the journal."""

    def __init__(self, known: Known, edbc_max: int, note: Report) -> None:
        self.edbc = Edbc(edbc_max)
        self.rcpts = 0
        self.tas = 0
        self.waiting: dict[str, set[int]] = {}
        self.places: dict[str, Content] = {}
        self._known = known
        self._note = note
        self._counters = array("Q")  # of all transactions, in order
        self._outdated: list[DeferredTa] = []
        self._empty: list[str] = []
        self._goes: list[tuple[str, int]] = []

    def run(self, defedb: Defedb, place: Callable[[str, Content], Content]) -> "Survey":
        """Go through DEFEDB and correct it; `place` says where content lies now. StoreError, CorruptStore."""
        for group in defedb.loaded(self._note):
            self._take(group, defedb.path, place)
        for at in range(0, len(self._goes), _DELETES_MAX):
            defedb.write([Change(deletes=tuple(self._goes[at:at + _DELETES_MAX]))])
        puts = tuple(self._outdated)
        if puts or self._empty:
            defedb.write([Change(puts, ended=tuple(self._empty))])
        return self

    def has(self, ta: str) -> bool:
        """Whether a transaction is in DEFEDB."""
        at = bisect_left(self._counters, ta_counter(ta))
        return at < len(self._counters) and self._counters[at] == ta_counter(ta)

    def _take(self, group: Group[Waiting], path: str, place: Callable[[str, Content], Content]) -> None:
        known, (name, ta, found) = self._known, group
        if ta is None:
            self._note(CorruptRecord(path, 0, f"the record of {name} is gone"))
            self._goes += [(name, rcpt.idx) for rcpt in found]
            return
        if not found and name not in known.origins:
            self._note(CorruptRecord(path, 0, f"the recipients of {name} are gone"))
        rcpts = [rcpt for rcpt in found if (name, rcpt.idx) not in known.bounced]
        self._goes += [(name, rcpt.idx) for rcpt in found if (name, rcpt.idx) in known.bounced]
        next_idx = max([known.next_idx.get(name, 0), *(rcpt.idx + 1 for rcpt in found)])
        if name in known.next_idx:
            known.next_idx[name] = max(next_idx, ta.next_idx)
        if not rcpts:
            self._empty.append(name)
            return
        if ta.next_idx < next_idx:
            self._outdated.append(ta._replace(next_idx=next_idx))
        self._keep(name, ta.content[0], rcpts, place)

    def _keep(
        self, name: str, content: Content, rcpts: list[Waiting], place: Callable[[str, Content], Content]
    ) -> None:
        self.tas += 1
        self.rcpts += len(rcpts)
        self._counters.append(ta_counter(name))
        if name in self._known.names or name in self._known.next_idx:
            self.waiting[name] = {rcpt.idx for rcpt in rcpts}
        if content.segment and place(name, content).segment:
            self.places[name] = content
        for rcpt in rcpts:
            self.edbc.add(rcpt)
