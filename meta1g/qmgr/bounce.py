"""DSNs: which failures and successes go into one, to whom; double bounces; pure (M1 3.8 items 5, 6, 10.6).

Rules
    A DSN is a transaction from <> to the envelope sender that the recipients' mail had.
    A failed DSN goes to double_bounce_address, and if that fails too it ends: there are no loops.
    The recipients a DSN is about end in the same IBDB write in which the DSN begins; those whose delay it
    reports go to DEFEDB after it.
"""
from meta1g.mta import addr, logfmt
from meta1g.mta.ids import rcpt_id, ss_id
from meta1g.proto.msg_ss import Compose, Composed, Content
from meta1g.qmgr import aq, content, notice, outcome, routing, verp
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
_REPORTED = (RState.BOUNCING, RState.WARNING)


def send_due(q: Qmgr, now: float, out: list[Effect]) -> None:
    """Begin the DSNs whose time has come: all results are there, or merging has taken long enough."""
    if not q.bouncing:
        return
    busy = {id(rcpt) for composing in q.composing.values() for rcpt in composing.rcpts}
    for name in list(q.bouncing):
        ta = q.aq[name]
        if now < ta.compose_at or (now < ta.bounce_at and _may_grow(ta)):
            continue
        rcpts = [rcpt for rcpt in ta.rcpts.values() if rcpt.state in _REPORTED and id(rcpt) not in busy]
        if not rcpts:
            del q.bouncing[name]
            continue
        sender = verp.sender_of(q.settings.verp, ta, rcpts[0])
        rcpts = [rcpt for rcpt in rcpts
                 if rcpt.state is rcpts[0].state and verp.sender_of(q.settings.verp, ta, rcpt) == sender]
        rcpts = rcpts[: q.settings.dsn_errors_max]
        to = sender or _second_addressee(q, ta)
        if to is None:
            _end_double_bounce(q, ta, rcpts, out)
        elif not q.smtps or not q.dsn_next:
            return  # nobody writes, or it is not on record yet which ids are given away
        else:
            _compose(q, ta, rcpts, to, now, out)


def _may_grow(ta: Ta) -> bool:
    """Whether more results may come soon: of recipients in AQ, or for a delay of those due at nearly the same time."""
    if aq.is_active(ta):
        return True
    here = sum(rcpt.home is Home.DEFEDB for rcpt in ta.rcpts.values())
    is_elsewhere = ta.deferred > here
    return is_elsewhere and any(rcpt.state is RState.WARNING for rcpt in ta.rcpts.values())


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


def _compose(q: Qmgr, ta: Ta, rcpts: list[Rcpt], to: bytes, now: float, out: list[Effect]) -> None:
    peer = next(iter(q.smtps))
    name = ss_id(q.dsn_next, q.smtps[peer].process)  # a segment's name says whose it is
    q.dsn_next += 1
    whole = notice.returns_whole(q, ta, rcpts, to)
    if whole:
        ta.returned += (to,)
    frame = notice.frame(q, ta, rcpts, to, name, now, whole=whole)
    is_delay = rcpts[0].state is RState.WARNING
    q.composing[name] = Composing(ta.ta, rcpts, to, peer, now, is_delay, frame.is_8bit, frame.is_utf8, whole)
    out.append(Tell(peer, Compose(not whole, name, ta.ta, frame.head, frame.tail, (ta.content,))))


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
        out.append(LogLine(0, logfmt.fields(func="q_bounce", ss_ta=ta.ta, dsn=message.ta, error=error)))
        ta.compose_at = now + AGAIN
        _begin_again(q, [message.ta], out)
        return
    _begin(q, ta, composing, message, now, out)


def _begin(q: Qmgr, ta: Ta, composing: Composing, message: Composed, now: float, out: list[Effect]) -> None:
    place: Content = message.content[0]
    is_8bit, is_utf8 = composing.is_8bit, composing.is_utf8
    bounce = Ta(message.ta, b"", b"", now, message.size, is_8bit, is_utf8, "", place, next_idx=1, ibdb_open=1)
    bounce.rcpts[0] = Rcpt(0, composing.to)
    content.hold(q, message.ta, place)
    q.iqdb[message.ta] = Incoming(bounce, None, 0)
    ended = []
    for rcpt in composing.rcpts if not composing.is_delay else ():
        is_here = rcpt.home is Home.IBDB
        ta.ibdb_open -= is_here
        ended.append(Ended(rcpt.idx, is_here and ta.ibdb_open == 0))
    begin = TaNew(now, message.size, is_8bit, is_utf8, message.ta, "", b"", b"", ta.ta,
                  (RcptRec(0, False, False, composing.to, b"", b""),), (place,), tuple(ended))
    out.append(LogLine(9, logfmt.fields(
        func="q_bounce", ss_ta=ta.ta, dsn=message.ta, rcpt=addr.bracketed(composing.to), rcpts=len(composing.rcpts))))
    out.append(WriteIbdb((begin,), Bounced(message.ta), is_urgent=True))


def on_bounced(q: Qmgr, then: Bounced, now: float, out: list[Effect]) -> None:
    """IBDB has the DSN: the recipients it is about leave DEFEDB too, before it may be delivered."""
    composing = q.composing[then.dsn]
    ta = q.aq[composing.origin]
    if composing.is_delay:
        _on_warned(q, ta, then.dsn, now, out)
        return
    deletes = tuple((ta.ta, rcpt.idx) for rcpt in composing.rcpts if rcpt.home is Home.DEFEDB)
    ended: tuple[str, ...] = ()
    if deletes:
        aq.count_deferred(q, ta, -len(deletes))
        if not ta.deferred:
            ended = (ta.ta,)
    out.append(WriteDefedb(Change((), deletes, ended), BounceCleared(then.dsn)))


def _on_warned(q: Qmgr, ta: Ta, name: str, now: float, out: list[Effect]) -> None:
    """The report of a delay is ours: its recipients wait. A crash before DEFEDB knows brings one more report."""
    for rcpt in q.composing.pop(name).rcpts:
        rcpt.is_warned = True
        outcome.store_deferred(q, ta, rcpt, rcpt.next_try, out)
    routing.admit(q, q.iqdb.pop(name).ta, now, out)


def on_cleared(q: Qmgr, then: BounceCleared, now: float, out: list[Effect]) -> None:
    """Nothing but the DSN is left of these recipients."""
    composing = q.composing.pop(then.dsn)
    ta = q.aq[composing.origin]
    for rcpt in composing.rcpts:
        aq.drop_rcpt(q, ta, rcpt)
    if ta.ibdb_open == 0 and not ta.deferred:
        content.ended_in_defedb(ta.ta, ta.content, (), out)
    routing.admit(q, q.iqdb.pop(then.dsn).ta, now, out)


def on_peer_gone(q: Qmgr, peer: object, out: list[Effect]) -> None:
    """An SMTP server went away: what it was composing is begun again. With the last one delays go unreported."""
    _begin_again(q, [name for name, composing in q.composing.items() if composing.peer is peer], out)
    if q.smtps:
        return
    busy = {id(rcpt) for composing in q.composing.values() for rcpt in composing.rcpts}
    for ta in [q.aq[name] for name in q.bouncing]:
        rcpts = [rcpt for rcpt in ta.rcpts.values() if rcpt.state is RState.WARNING and id(rcpt) not in busy]
        _defer_unwarned(q, ta, rcpts, out)


def expire(q: Qmgr, now: float, out: list[Effect]) -> None:
    """A server that does not answer: another may."""
    _begin_again(q, [name for name, composing in q.composing.items() if now - composing.began > ANSWER_MAX], out)


def _begin_again(q: Qmgr, names: list[str], out: list[Effect]) -> None:
    """These DSNs were not written. Mail does not wait for the report of its delay: its next try brings another."""
    for name in names:
        if name in q.iqdb:
            continue
        composing = q.composing.pop(name)
        ta = q.aq[composing.origin]
        if composing.returns:
            ta.returned = tuple(to for to in ta.returned if to != composing.to)
        if composing.is_delay:
            _defer_unwarned(q, ta, composing.rcpts, out)
        else:
            q.bouncing[ta.ta] = None


def _defer_unwarned(q: Qmgr, ta: Ta, rcpts: list[Rcpt], out: list[Effect]) -> None:
    for rcpt in rcpts:
        outcome.store_deferred(q, ta, rcpt, rcpt.next_try, out)
