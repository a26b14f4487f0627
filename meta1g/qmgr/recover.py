"""Start-up: what IBDB, DEFEDB and CDB say about mail that an earlier run left (M1 7.1, design 5).

Rules
    A recipient counts as IBDB's unless a record ends it there or DEFEDB has it too.
    IBDB is rewritten with what is left, then its old files go.
    Content that no envelope needs was never acknowledged, or its mail has ended: an
    orphan, which is removed. An envelope without content can't be delivered: it is
    reported and bounced at its first attempt.
"""
from collections.abc import Callable, Iterable
from typing import NamedTuple

from meta1g.mta.errors import CorruptRecord
from meta1g.proto.msg_ss import Content
from meta1g.qmgr.state import Rcpt, Ta
from meta1g.shim import ibdb, journal
from meta1g.shim.cdb import ContentDb
from meta1g.shim.defedb import Change, Defedb
from meta1g.shim.records import DeferredRcpt, IbdbRecord, IdsGiven, RcptEnd, RcptRec, RcptsAdded, TaNew
from meta1g.shim.safeio import Disk


class Fresh(NamedTuple):
    """A transaction in IBDB with the recipients that have not ended."""

    begin: TaNew
    rcpts: dict[int, RcptRec]


class Found(NamedTuple):
    """What recovery found: transactions for AQ, DEFEDB's order, segments in use, the last id given."""

    fresh: list[Ta]
    deferred: list[tuple[float, str, int]]
    segments: dict[str, set[str]]
    ids_last: int
    orphans: int
    keep: list[IbdbRecord]


Report = Callable[[CorruptRecord], None]


def replay(records: Iterable[IbdbRecord]) -> tuple[dict[str, Fresh], list[TaNew], int]:
    """IBDB's records in order: what has not ended, the DSNs among all, and the last id; pure."""
    fresh: dict[str, Fresh] = {}
    dsns = []
    ids_last = 0
    for record in records:
        if isinstance(record, TaNew):
            fresh[record.ta] = Fresh(record, {rcpt.idx: rcpt for rcpt in record.rcpts})
            if record.origin:
                dsns.append(record)
        elif isinstance(record, RcptEnd):
            if record.ta in fresh:
                fresh[record.ta].rcpts.pop(record.idx, None)
        elif isinstance(record, RcptsAdded):
            if record.ta in fresh:
                rcpts = fresh[record.ta].rcpts
                rcpts.pop(record.idx, None)
                rcpts.update((rcpt.idx, rcpt) for rcpt in record.rcpts)
        elif isinstance(record, IdsGiven):
            ids_last = max(ids_last, record.last)
    return {ta: found for ta, found in fresh.items() if found.rcpts}, dsns, ids_last


def recover(disk: Disk, folder: str, defedb: Defedb, cdb: ContentDb, report: Report) -> Found:
    """Read everything; remove from IBDB's view what DEFEDB has, and orphans from CDB."""
    fresh, dsns, ids_last = replay(ibdb.read(disk, folder, report))
    _end_bounced(defedb, dsns)
    deferred: list[tuple[float, str, int]] = []
    places: dict[str, Content] = {}
    for entry in defedb.entries(report):
        if isinstance(entry, DeferredRcpt):
            deferred.append((entry.next_try, entry.ta, entry.idx))
            if entry.ta in fresh:
                fresh[entry.ta].rcpts.pop(entry.idx, None)
        else:
            places[entry.ta] = entry.content[0]
    fresh = {ta: found for ta, found in fresh.items() if found.rcpts}
    transactions = []
    for found in fresh.values():
        begin = found.begin
        place = _place(cdb, begin.ta, begin.content[0])
        places[begin.ta] = place
        transactions.append(_transaction(found, place))
    segments = _segments(cdb, places)
    orphans = cdb.sweep() + _remove_orphans(cdb, places)
    keep: list[IbdbRecord] = [IdsGiven(ids_last)]
    keep += [found.begin._replace(rcpts=tuple(found.rcpts.values()), content=(places[ta],))
             for ta, found in fresh.items()]
    return Found(transactions, deferred, segments, ids_last, orphans, keep)


def _end_bounced(defedb: Defedb, dsns: list[TaNew]) -> None:
    """A DSN that IBDB has ends its recipients, also where the crash came before DEFEDB heard of it."""
    changes = [Change((), tuple((dsn.origin, ended.idx) for ended in dsn.ended)) for dsn in dsns]
    if changes:
        defedb.write(changes)


def _place(cdb: ContentDb, ta: str, content: Content) -> Content:
    if content.segment and cdb.has_file(ta):
        return content._replace(segment="", offset=0)
    return content


def _transaction(found: Fresh, place: Content) -> Ta:
    begin = found.begin
    top = max([rcpt.idx for rcpt in begin.rcpts] + list(found.rcpts))
    ta = Ta(begin.ta, begin.mail, begin.mail_params, begin.received, begin.size, begin.is_8bit, begin.is_utf8,
            begin.client_ip, place, next_idx=top + 1, ibdb_open=len(found.rcpts))
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


def _remove_orphans(cdb: ContentDb, places: dict[str, Content]) -> int:
    count = 0
    for ta in list(cdb.transactions()):
        if ta not in places:
            count += cdb.unlink(ta)
    return count
