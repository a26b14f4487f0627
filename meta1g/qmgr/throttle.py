"""Slowing the SMTP servers down while there is more than can be delivered (M1 9.1); pure.

Rules
    What is fullest counts: IQDB, or AQ with what IQDB will bring into it. From half of it on the servers may hold
    fewer sessions, in proportion, down to one. Less holds at once, more comes back in steps of a tenth a second,
    and small changes are not told: so the number does not swing.
    When all of it is used, or the disk is nearly full, new transactions are refused; they are taken again when a
    tenth of it is free, or `disk_space_ok` is there.
"""
from typing import Final

from meta1g.mta import logfmt
from meta1g.proto.msg_ss import DISK_SPACE, QUEUE_FULL, Throttle
from meta1g.qmgr.effects import Effect, LogLine, Tell
from meta1g.qmgr.state import Qmgr

_BEGIN: Final = 0.5  # of a table: below, there is room for all that the sessions may bring
_FREE: Final = 0.9  # a full queue is open again below this
_STEP: Final = 20  # changes below a twentieth of all sessions are not told
_RISE: Final = 10  # a tenth of all sessions comes back each time


def used(q: Qmgr) -> float:
    """How full the fullest table is; 1.0 is full."""
    settings = q.settings
    return max(q.iqdb_rcpts / settings.iqdb_entries_max, (q.aq_rcpts + q.iqdb_rcpts) / settings.aq_entries_max)


def throttle(q: Qmgr, out: list[Effect]) -> None:
    """Tell the servers how many sessions they may hold, and whether to take mail, if that has changed."""
    most, share = q.settings.smtps_sessions_max, used(q)
    is_full = share >= 1.0 or (q.is_full and share >= _FREE)
    if is_full != q.is_full:
        q.is_full = is_full
        out.append(LogLine(1 if is_full else 9, logfmt.fields(
            func="q_throttle", iqdb=q.iqdb_rcpts, aq=q.aq_rcpts, status="full" if is_full else "room is back")))
    text = DISK_SPACE if q.is_disk_low else QUEUE_FULL if is_full else ""
    allowed = max(round(most * min(1.0, max(0.0, (1.0 - share) / (1.0 - _BEGIN)))), 1)
    last = q.throttled_to
    if last >= 0:
        allowed = min(allowed, last + max(most // _RISE, 1))
        is_end = allowed in (1, most) and allowed != last
        if abs(allowed - last) * _STEP < most and not is_end and text == q.throttle_text:
            return
    q.throttled_to, q.throttle_text = allowed, text
    for peer in q.smtps:
        out.append(Tell(peer, Throttle(allowed, text)))
