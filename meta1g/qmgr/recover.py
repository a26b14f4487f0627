"""Start-up: what IBDB, DEFEDB and CDB say about mail that an earlier run left (M1 7.1, design 5).

Rules
    A recipient counts as IBDB's unless a record ends it there or DEFEDB has it too.
    IBDB is rewritten with what is left, then its old files go.
    Content that no envelope needs was never acknowledged, or its mail has ended: an
    orphan, which is removed; but not when IBDB or DEFEDB was damaged or is gone, since then its
    envelope may be what is lost: a file DAMAGED keeps it until `meta1g queue repair` (M1 4.11.2).
    A torn tail of IBDB is most likely what a crash left of mail that was not acknowledged: it keeps
    orphans until the next start only.
    An envelope without content can't be delivered: it is reported and bounced at its first attempt.
"""
from collections.abc import Iterable
from typing import Final, NamedTuple

from meta1g.mta.errors import CorruptRecord, TornTail
from meta1g.mta.ids import rcpt_id, ta_counter
from meta1g.proto.msg_ss import Content
from meta1g.qmgr import routing
from meta1g.qmgr.edbc import ENTRIES_MAX
from meta1g.qmgr.effects import Effect, LogLine
from meta1g.qmgr.state import Qmgr, Rcpt, Ta
from meta1g.qmgr.survey import Known, Report, Survey
from meta1g.shim import ibdb, journal
from meta1g.shim.cdb import ContentDb
from meta1g.shim.defedb import Defedb
from meta1g.shim.records import (
    Attempt,
    IbdbRecord,
    IdsGiven,
    RcptRec,
    RcptsAdded,
    TaNew,
    Tried,
)
from meta1g.shim.safeio import Disk


class Fresh(NamedTuple):
    """A transaction in IBDB with the recipients that have not ended."""

    begin: TaNew
    rcpts: dict[int, RcptRec]


class Replayed(NamedTuple):
    """What IBDB says: the transactions that have not ended, the DSNs among all, the last id given, the first
    index that was never used, by transaction, and the recipients with an attempt of unknown outcome."""

    fresh: dict[str, Fresh]
    dsns: list[TaNew]
    ids_last: int
    next_idx: dict[str, int]
    tried: dict[tuple[str, int], bool]  # whether an earlier recovery found it so


class Found(NamedTuple):
    """What recovery found: transactions for AQ, what DEFEDB holds, segments in use, the last id given, the
    recipients whose attempt was under way, and what IBDB shall begin with."""

    fresh: list[Ta]
    stored: Survey
    segments: dict[str, set[str]]
    ids_last: int
    orphans: int
    kept: int
    uncertain: list[tuple[str, int]]
    keep: list[IbdbRecord]


DAMAGED: Final = "damaged"  # the name of a file in IBDB's folder, and of what holds segments meanwhile


def replay(records: Iterable[IbdbRecord]) -> Replayed:
    """IBDB's records in order; pure."""
    fresh: dict[str, Fresh] = {}
    dsns = []
    ids_last = 0
    next_idx: dict[str, int] = {}
    tried: dict[tuple[str, int], bool] = {}
    for record in records:
        if isinstance(record, IdsGiven):
            ids_last = max(ids_last, record.last)
        elif isinstance(record, TaNew):
            fresh[record.ta] = Fresh(record, {rcpt.idx: rcpt for rcpt in record.rcpts})
            ids_last = max(ids_last, ta_counter(record.ta))
            _use(next_idx, record.ta, [rcpt.idx for rcpt in record.rcpts])
            if record.origin:
                dsns.append(record)
                ended = [end.idx for end in record.ended]
                _use(next_idx, record.origin, ended)
                _drop(fresh, record.origin, ended)
                for idx in ended:
                    tried.pop((record.origin, idx), None)
        elif isinstance(record, Attempt):
            tried.update({(record.ta, rcpt.idx): record.is_uncertain for rcpt in record.rcpts})
        else:
            tried.pop((record.ta, record.idx), None)
            _use(next_idx, record.ta, [record.idx])
            _drop(fresh, record.ta, [record.idx])
            if isinstance(record, RcptsAdded):
                _use(next_idx, record.ta, [rcpt.idx for rcpt in record.rcpts])
                if record.ta in fresh:
                    fresh[record.ta].rcpts.update((rcpt.idx, rcpt) for rcpt in record.rcpts)
    return Replayed({ta: found for ta, found in fresh.items() if found.rcpts}, dsns, ids_last, next_idx, tried)


def _use(next_idx: dict[str, int], ta: str, idxs: Iterable[int]) -> None:
    next_idx[ta] = max([next_idx.get(ta, 0), *(idx + 1 for idx in idxs)])


def _drop(fresh: dict[str, Fresh], ta: str, idxs: Iterable[int]) -> None:
    if ta in fresh:
        for idx in idxs:
            fresh[ta].rcpts.pop(idx, None)


def recover(disk: Disk, folder: str, defedb: Defedb, cdb: ContentDb, report: Report, *,
            is_whole: bool = True, edbc_max: int = ENTRIES_MAX) -> Found:
    """Read everything; remove from IBDB's view what DEFEDB has, and orphans from CDB.

    `is_whole` says that DEFEDB was there; damage that turns up goes to `report`. EDBC takes up to `edbc_max`.
    """
    damage: list[CorruptRecord] = []
    torn: list[TornTail] = []

    def note(error: CorruptRecord) -> None:
        if isinstance(error, TornTail):
            torn.append(error)
        else:
            damage.append(error)
        report(error)

    is_whole = is_whole and bool(ibdb.files(disk, folder))
    said = replay(ibdb.read(disk, folder, note))
    cdb.flush_folders()  # before a file counts instead of its segment
    stored = Survey(_known(said), edbc_max, note).run(defedb, lambda ta, content: _place(cdb, ta, content))
    for ta, idxs in stored.waiting.items():
        _drop(said.fresh, ta, idxs)
    fresh = {ta: found for ta, found in said.fresh.items() if found.rcpts}
    places = {ta: _place(cdb, ta, found.begin.content[0]) for ta, found in fresh.items()}
    transactions = [_transaction(found, places[ta], said.next_idx[ta], len(stored.waiting.get(ta, ())))
                    for ta, found in fresh.items()]
    segments = _segments(cdb, stored.places | places)
    orphans = cdb.sweep()
    lost = [ta for ta in cdb.transactions() if ta not in places and not stored.has(ta)]
    if (damage or not is_whole) and (lost or segments):
        _keep_orphans(disk, folder)
    kept = 0
    if torn or disk.exists(f"{folder}/{DAMAGED}"):
        for holders in segments.values():
            holders.add(DAMAGED)
        kept = len(lost)
    else:
        orphans += sum(cdb.unlink(ta) for ta in lost)
    keep: list[IbdbRecord] = [IdsGiven(said.ids_last)]
    keep += [found.begin._replace(rcpts=tuple(found.rcpts.values()), content=(places[ta],))
             for ta, found in fresh.items()]
    uncertain = sorted((ta, idx) for ta, idx in said.tried
                       if idx in stored.waiting.get(ta, ()) or (ta in fresh and idx in fresh[ta].rcpts))
    keep += [Attempt(True, ta, (Tried(idx),)) for ta, idx in uncertain]
    return Found(transactions, stored, segments, said.ids_last, orphans, kept, uncertain, keep)


def _known(said: Replayed) -> Known:
    ending = [dsn for dsn in said.dsns if dsn.ended]
    return Known(said.next_idx, {ta for ta, _ in said.tried}, {dsn.origin for dsn in ending},
                 {(dsn.origin, end.idx) for dsn in ending for end in dsn.ended})


def fill(q: Qmgr, found: Found, now: float) -> list[LogLine]:
    """Fill the tables with what was found; the lines that name whose last attempt is uncertain; pure."""
    q.start = q.maps_changed = now
    q.ids_next = found.ids_last
    q.holders = found.segments
    q.edbc, q.deferred_rcpts, q.deferred_tas = found.stored.edbc, found.stored.rcpts, found.stored.tas
    out: list[Effect] = []  # nobody is there yet to be told anything
    for transaction in found.fresh:
        routing.admit(q, transaction, now, out)
    assert not out
    return [LogLine(1, f"func=q_recover, rcpt_id={rcpt_id(ta, idx)}, status=uncertain")
            for ta, idx in found.uncertain]


def _place(cdb: ContentDb, ta: str, content: Content) -> Content:
    if content.segment and cdb.has_file(ta):
        return content._replace(segment="", offset=0)
    return content


def _transaction(found: Fresh, place: Content, next_idx: int, deferred: int) -> Ta:
    begin = found.begin
    ta = Ta(begin.ta, begin.mail, begin.mail_params, begin.received, begin.size, begin.is_8bit, begin.is_utf8,
            begin.client_ip, place, next_idx=next_idx, ibdb_open=len(found.rcpts),
            deferred=deferred)
    for rec in found.rcpts.values():
        ta.rcpts[rec.idx] = Rcpt(rec.idx, rec.address, rec.params, rec.sender if rec.has_sender else None,
                                 rec.is_expanded)
    return ta


def _segments(cdb: ContentDb, places: dict[str, Content]) -> dict[str, set[str]]:
    """Which transactions need each segment that is there."""
    holders: dict[str, set[str]] = {
        name: set() for name in cdb.disk.names(cdb.base + journal.FOLDER) if journal.is_segment(name)}
    for ta, place in places.items():
        if place.segment:
            holders.setdefault(place.segment, set()).add(ta)
    return holders


def _keep_orphans(disk: Disk, folder: str) -> None:
    """What lies in CDB without an envelope may be all that is left of a message."""
    path = f"{folder}/{DAMAGED}"
    if not disk.exists(path):
        disk.close(disk.create(path, ibdb.MODE))
        disk.flush_folder(folder)
