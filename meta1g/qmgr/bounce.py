"""DSNs: which failures and successes go into one, to whom; double bounces; pure (M1 3.8 items 5, 6, 10.6).

Rules
    A DSN is a transaction from <> to the envelope sender that the recipients' mail had.
    A failed DSN goes to double_bounce_address, and if that fails too it ends: there are no loops.
    The recipients a DSN is about end in the same IBDB write in which the DSN begins.
"""
from email.utils import formatdate

from meta1g.mta import addr, logfmt
from meta1g.mta.ids import rcpt_id, ss_id
from meta1g.proto import dsn
from meta1g.proto.msg_da import Stage
from meta1g.proto.msg_ss import Compose, Composed, Content
from meta1g.proto.smtp.params import split_onward
from meta1g.qmgr import aq, content, outcome, routing, verp
from meta1g.qmgr.effects import (
    BounceCleared,
    Bounced,
    Effect,
    LogLine,
    RemoveContent,
    Tell,
    WriteDefedb,
    WriteIbdb,
)
from meta1g.qmgr.state import Composing, Home, Incoming, Qmgr, Rcpt, RState, Ta
from meta1g.shim.defedb import Change
from meta1g.shim.records import Ended, Outcome, RcptRec, TaNew

AGAIN = 10.0  # seconds until a DSN that a server could not write is tried again
ANSWER_MAX = 300.0  # seconds a server has for writing a DSN


def send_due(q: Qmgr, now: float, out: list[Effect]) -> None:
    """Begin the DSNs whose time has come: all results are there, or merging has taken long enough."""
    busy = {id(rcpt) for composing in q.composing.values() for rcpt in composing.rcpts}
    for name in list(q.bouncing):
        ta = q.aq[name]
        if now < ta.compose_at or (aq.is_active(ta) and now < ta.bounce_at):
            continue
        failed = [rcpt for rcpt in ta.rcpts.values() if rcpt.state is RState.BOUNCING]
        failed = [rcpt for rcpt in failed if id(rcpt) not in busy]
        if not failed:
            del q.bouncing[name]
            continue
        sender = verp.sender_of(q.settings.verp, ta, failed[0])
        failed = [rcpt for rcpt in failed if verp.sender_of(q.settings.verp, ta, rcpt) == sender]
        failed = failed[: q.settings.dsn_errors_max]
        to = sender or _second_addressee(q, ta)
        if to is None:
            _end_double_bounce(q, ta, failed, out)
        elif not q.smtps or not q.dsn_next:
            return  # nobody writes, or it is not on record yet which ids are given away
        else:
            _compose(q, ta, failed, to, now, out)


def _second_addressee(q: Qmgr, ta: Ta) -> bytes | None:
    """Who hears of mail that has no sender; None if not even he can be reached."""
    double = q.settings.double_bounce_address
    if any(rcpt.address == double for rcpt in ta.rcpts.values()):
        return None
    return double


def _end_double_bounce(q: Qmgr, ta: Ta, failed: list[Rcpt], out: list[Effect]) -> None:
    for rcpt in failed:
        q.counters.discarded += 1
        out.append(LogLine(0, logfmt.fields(
            func="q_bounce", rcpt_id=rcpt_id(ta.ta, rcpt.idx), rcpt=addr.bracketed(rcpt.address),
            status="double bounce failed, message ends", reply=rcpt.reply)))
        outcome.finish(q, ta, rcpt, Outcome.DISCARDED, out)


def _compose(q: Qmgr, ta: Ta, failed: list[Rcpt], to: bytes, now: float, out: list[Effect]) -> None:
    peer = next(iter(q.smtps))
    name = ss_id(q.dsn_next, q.smtps[peer].process)  # a segment's name says whose it is
    q.dsn_next += 1
    reports = [dsn.Report(rcpt.address, rcpt.reply, "" if rcpt.is_success else Stage.NAMES[rcpt.stage])
               for rcpt in failed]
    frame = dsn.plain(q.settings.hostname, to, name, formatdate(now, localtime=True), reports)
    wishes = split_onward(ta.mail_params)
    header_only = (
        q.settings.dsn_header_only or not ta.mail or wishes.get(b"RET", b"").upper() == b"HDRS"
        or all(rcpt.is_success for rcpt in failed)  # RFC 3461 4.3, 6.2
        or b"BODY" in wishes)  # binary content could not go by DATA
    q.composing[name] = Composing(ta.ta, failed, to, peer, now)
    out.append(Tell(peer, Compose(header_only, name, ta.ta, frame.head, frame.tail, (ta.content,))))


def on_composed(q: Qmgr, message: Composed, now: float, out: list[Effect]) -> None:
    """The DSN's content is on stable storage: make its envelope so, and end what it is about."""
    composing = q.composing.get(message.ta)
    ta = q.aq.get(composing.origin) if composing else None
    if composing is None or ta is None or message.ta in q.iqdb:
        if message.content and message.ta not in q.iqdb and message.ta not in q.aq:
            out.append(RemoveContent(message.ta, message.content[0]))  # it came too late
        return
    error = message.error
    if not error and message.content[0].segment and message.content[0].segment not in q.holders:
        error = "its segment is gone"
    if error:
        del q.composing[message.ta]
        out.append(LogLine(0, logfmt.fields(func="q_bounce", ss_ta=ta.ta, dsn=message.ta, error=error)))
        q.bouncing[ta.ta] = None
        ta.compose_at = now + AGAIN
        return
    place: Content = message.content[0]
    bounce = Ta(message.ta, b"", b"", now, message.size, False, False, "", place, next_idx=1, ibdb_open=1)
    bounce.rcpts[0] = Rcpt(0, composing.to)
    content.hold(q, message.ta, place)
    q.iqdb[message.ta] = Incoming(bounce, None, 0)
    ended = []
    for rcpt in composing.rcpts:
        is_here = rcpt.home is Home.IBDB
        ta.ibdb_open -= is_here
        ended.append(Ended(rcpt.idx, is_here and ta.ibdb_open == 0))
    begin = TaNew(now, message.size, False, False, message.ta, "", b"", b"", ta.ta,
                  (RcptRec(0, False, False, composing.to, b"", b""),), (place,), tuple(ended))
    out.append(LogLine(9, logfmt.fields(
        func="q_bounce", ss_ta=ta.ta, dsn=message.ta, rcpt=addr.bracketed(composing.to), rcpts=len(composing.rcpts))))
    out.append(WriteIbdb((begin,), Bounced(message.ta), is_urgent=True))


def on_bounced(q: Qmgr, then: Bounced, out: list[Effect]) -> None:
    """IBDB has the DSN: the recipients it is about leave DEFEDB too, before it may be delivered."""
    composing = q.composing[then.dsn]
    ta = q.aq[composing.origin]
    deletes = tuple((ta.ta, rcpt.idx) for rcpt in composing.rcpts if rcpt.home is Home.DEFEDB)
    ended: tuple[str, ...] = ()
    if deletes:
        q.edbc.count[ta.ta] -= len(deletes)
        if not q.edbc.count[ta.ta]:
            del q.edbc.count[ta.ta]
            ended = (ta.ta,)
            ta.in_defedb = False
    out.append(WriteDefedb(Change((), deletes, ended), BounceCleared(then.dsn)))


def on_cleared(q: Qmgr, then: BounceCleared, now: float, out: list[Effect]) -> None:
    """Nothing but the DSN is left of these recipients."""
    composing = q.composing.pop(then.dsn)
    ta = q.aq[composing.origin]
    for rcpt in composing.rcpts:
        aq.drop_rcpt(q, ta, rcpt)
    if ta.ibdb_open == 0 and not q.edbc.count.get(ta.ta):
        content.ended_in_defedb(ta.ta, ta.content, (), out)
    routing.admit(q, q.iqdb.pop(then.dsn).ta, now, out)


def on_peer_gone(q: Qmgr, peer: object) -> None:
    """An SMTP server went away: what it was composing is begun again."""
    _begin_again(q, [name for name, composing in q.composing.items() if composing.peer is peer])


def expire(q: Qmgr, now: float) -> None:
    """A server that does not answer: another may."""
    _begin_again(q, [name for name, composing in q.composing.items() if now - composing.began > ANSWER_MAX])


def _begin_again(q: Qmgr, names: list[str]) -> None:
    for name in names:
        if name not in q.iqdb:
            q.bouncing[q.composing.pop(name).origin] = None

