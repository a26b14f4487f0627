"""A recipient's result and what follows: delivered, later, never; pure (M1 7.1).

Rules
    A recipient leaves its home store only by a record there. Content goes only after the
    record of the last recipient is on stable storage (`Gone`).
"""
from meta1g.mta import addr, logfmt
from meta1g.mta.ids import rcpt_id
from meta1g.mta.reply import Reply
from meta1g.proto.msg_da import Stage
from meta1g.proto.msg_ss import Content
from meta1g.proto.smtp.params import notifies, quarantine, released
from meta1g.qmgr import aq, content, notice, retry
from meta1g.qmgr.effects import Deferred, Effect, EndedThere, Gone, LogLine, Waits, WriteDefedb, WriteIbdb
from meta1g.qmgr.state import Home, Qmgr, Rcpt, RState, Ta, Verdict
from meta1g.shim.defedb import Change, Waiting
from meta1g.shim.records import DeferredRcpt, DeferredTa, Outcome, RcptEnd

EXPANDED = Reply(250, "2.1.5", "Goes to the members")
EXPIRED = Reply(550, "5.4.7", "Message could not be delivered for too long")


def delivered(
    q: Qmgr, ta: Ta, rcpt: Rcpt, began: float, now: float, out: list[Effect], reply: Reply | None = None
) -> None:
    """The next server has it. With its `reply` we are who reports that, if the sender wants it (RFC 3461 4.1)."""
    q.counters.delivered += 1
    out.append(LogLine(9, logfmt.fields(
        func="q_upd_rcpt_ok", rcpt_id=rcpt_id(ta.ta, rcpt.idx), rcpt=addr.bracketed(rcpt.address),
        xdelay=int(now - began), delay=int(now - ta.received))))
    if reply is not None and rcpt.params and ta.mail and b"SUCCESS" in notifies(rcpt.params):
        rcpt.reply, rcpt.state, rcpt.since = reply, RState.BOUNCING, now
        _report_at(q, ta, now)
        return
    finish(q, ta, rcpt, Outcome.DELIVERED, out)


def failed(q: Qmgr, ta: Ta, rcpt: Rcpt, reply: Reply, now: float, out: list[Effect]) -> None:
    """A reply of class 4 or 5: later or never."""
    if reply.is_temporary:
        defer(q, ta, rcpt, reply, now, out)
    else:
        bounce(q, ta, rcpt, reply, now, out)


def defer(
    q: Qmgr, ta: Ta, rcpt: Rcpt, reply: Reply, now: float, out: list[Effect], *, is_tried: bool = True
) -> None:
    """Try again later; or give up if the message is too old. What was not tried is no reason to wait for longer."""
    settings = q.settings
    rcpt.reply = reply
    if end_by_verdict(q, ta, rcpt, now, out):
        return
    if retry.is_expired(ta.received, now, notice.return_after(q, rcpt)):
        bounce(q, ta, rcpt, _too_old(reply), now, out)
        return
    rcpt.tries += is_tried
    rcpt.since, rcpt.requeued = now, 0
    if ta.luck is None:
        ta.luck = q.luck()
    wait = retry.delay(rcpt.tries, settings.retry_delay_min, settings.retry_delay_max, ta.luck)
    q.counters.deferred += 1
    out.append(LogLine(9, logfmt.fields(
        func="q_upd_rcpt_temp", rcpt_id=rcpt_id(ta.ta, rcpt.idx), rcpt=addr.bracketed(rcpt.address),
        delay=int(now - ta.received), next_try=int(now + wait), where=Stage.NAMES[rcpt.stage], reply=reply)))
    if notice.is_delay_due(q, ta, rcpt, now):
        rcpt.state, rcpt.next_try = RState.WARNING, now + wait
        _report_at(q, ta, now + settings.dsn_merge_delay)
    else:
        store_deferred(q, ta, rcpt, now + wait, out)


def _too_old(reply: Reply) -> Reply:
    return Reply(550 if reply.code < 100 else 500 + reply.code % 100, "5.4.7", reply.text or EXPIRED.text)


def end_by_verdict(q: Qmgr, ta: Ta, rcpt: Rcpt, now: float, out: list[Effect]) -> bool:
    """End a recipient that nobody works on if an administrator has given it up (M1 4.7.3); whether that is so.

    One that is released comes again from DEFEDB, where it is on record then.
    """
    verdict = q.verdicts.pop((ta.ta, rcpt.idx), None) if q.verdicts else None
    if verdict is None:
        return False
    if verdict is Verdict.RELEASE:
        return _release(q, ta, rcpt, now, out)
    is_over = verdict is Verdict.DELETE
    out.append(LogLine(1, logfmt.fields(
        func="q_verdict", rcpt_id=rcpt_id(ta.ta, rcpt.idx), rcpt=addr.bracketed(rcpt.address),
        status="deleted by an administrator, message ends" if is_over else "given up by an administrator")))
    if is_over:
        q.counters.discarded += 1
        finish(q, ta, rcpt, Outcome.DISCARDED, out)
    else:
        bounce(q, ta, rcpt, _too_old(rcpt.reply), now, out)
    return True


def _release(q: Qmgr, ta: Ta, rcpt: Rcpt, now: float, out: list[Effect]) -> bool:
    if quarantine(rcpt.params) is None:
        return False
    rcpt.params, rcpt.reply = released(rcpt.params), Reply(0, "", "")
    out.append(LogLine(1, logfmt.fields(func="q_verdict", rcpt_id=rcpt_id(ta.ta, rcpt.idx),
                                        rcpt=addr.bracketed(rcpt.address), status="released by an administrator")))
    store_deferred(q, ta, rcpt, now, out)
    return True


def store_deferred(q: Qmgr, ta: Ta, rcpt: Rcpt, next_try: float, out: list[Effect]) -> None:
    """Put a recipient into DEFEDB, its transaction before it if it is not there yet.

    It is counted from now on, so that nobody takes the transaction out of DEFEDB before it is in.
    """
    rcpt.state = RState.STORING
    puts: list[DeferredTa | DeferredRcpt] = []
    if not ta.deferred or ta.next_idx != ta.stored_idx:
        puts.append(deferred_ta(ta))
    if rcpt.home is Home.IBDB:
        aq.count_deferred(q, ta, 1)
    puts.append(deferred_rcpt(ta, rcpt, next_try))
    out.append(WriteDefedb(Change(tuple(puts)), Deferred(ta.ta, (rcpt.idx,))))
    rcpt.since = next_try


def deferred_ta(ta: Ta) -> DeferredTa:
    """The DEFEDB record of a transaction, to be written now."""
    ta.stored_idx = ta.next_idx
    return DeferredTa(ta.received, ta.size, ta.next_idx, ta.is_8bit, ta.is_utf8, ta.ta, ta.client_ip,
                      ta.mail, ta.mail_params, (ta.content,))


def deferred_rcpt(ta: Ta, rcpt: Rcpt, next_try: float) -> DeferredRcpt:
    """The DEFEDB record of a recipient. What the access map and TLSA records say is not kept: SMAR is asked anew."""
    route_expires = 0.0 if rcpt.conf or rcpt.dane else rcpt.route_expires
    return DeferredRcpt(
        next_try, route_expires, rcpt.idx, rcpt.tries, rcpt.protocol, rcpt.stage, rcpt.reply.code, rcpt.is_warned,
        rcpt.sender is not None, rcpt.is_expanded, ta.ta, rcpt.address, rcpt.params, rcpt.sender or b"",
        rcpt.reply.estat, rcpt.reply.text, rcpt.hops)


def on_deferred(q: Qmgr, then: Deferred, out: list[Effect]) -> None:
    """DEFEDB has them: IBDB need not answer for them any more, and when it says so they leave AQ."""
    ta = q.aq.get(then.ta)
    if ta is None:
        return
    for idx in then.idxs:
        rcpt = ta.rcpts[idx]
        if rcpt.home is Home.IBDB:
            ta.ibdb_open -= 1
            out.append(WriteIbdb((RcptEnd(idx, Outcome.DEFERRED, ta.ibdb_open == 0, ta.ta),), Waits(ta.ta, idx)))
        else:
            if rcpt.is_tried:
                out.append(WriteIbdb((RcptEnd(idx, Outcome.DEFERRED, False, ta.ta),)))
            _leave(q, ta, rcpt)
    if q.smtps:
        content.settle(q, ta, next(iter(q.smtps)), out)


def on_waits(q: Qmgr, then: Waits) -> None:
    """IBDB has passed a recipient on to DEFEDB."""
    ta = q.aq[then.ta]
    _leave(q, ta, ta.rcpts[then.idx])


def _leave(q: Qmgr, ta: Ta, rcpt: Rcpt) -> None:
    """A recipient waits in DEFEDB from now on."""
    key = (ta.ta, rcpt.idx)
    verdict = q.verdicts.get(key)
    aq.drop_rcpt(q, ta, rcpt)
    q.edbc.add(Waiting(rcpt.since, *key))
    if verdict is not None:
        q.verdicts[key] = verdict
        q.doomed.append(key)


def bounce(q: Qmgr, ta: Ta, rcpt: Rcpt, reply: Reply, now: float, out: list[Effect]) -> None:
    """It will never be delivered: the sender must hear of it (`bounce.send_due`) unless he does not want to."""
    rcpt.reply = reply
    q.counters.bounced += 1
    out.append(LogLine(9, logfmt.fields(
        func="q_upd_rcpt_fail", rcpt_id=rcpt_id(ta.ta, rcpt.idx), rcpt=addr.bracketed(rcpt.address),
        delay=int(now - ta.received), where=Stage.NAMES[rcpt.stage], reply=reply)))
    if rcpt.params and b"FAILURE" not in notifies(rcpt.params):
        q.counters.discarded += 1
        out.append(LogLine(9, logfmt.fields(
            func="q_bounce", rcpt_id=rcpt_id(ta.ta, rcpt.idx), status="no report is wanted, message ends")))
        finish(q, ta, rcpt, Outcome.DISCARDED, out)
        return
    rcpt.state, rcpt.since = RState.BOUNCING, now
    _report_at(q, ta, now + q.settings.dsn_merge_delay)


def expanded(q: Qmgr, ta: Ta, rcpt: Rcpt, now: float) -> None:
    """An alias went to its members, and this is left to report it (RFC 3461 5.2.7)."""
    rcpt.reply, rcpt.state, rcpt.since = EXPANDED, RState.BOUNCING, now
    _report_at(q, ta, now)


def _report_at(q: Qmgr, ta: Ta, when: float) -> None:
    if ta.ta not in q.bouncing:
        q.bouncing[ta.ta] = None
        ta.bounce_at = when
    ta.bounce_at = min(ta.bounce_at, when)


def finish(q: Qmgr, ta: Ta, rcpt: Rcpt, how: int, out: list[Effect]) -> None:
    """A recipient has ended: write it down, and if it was the last let the content go."""
    aq.drop_rcpt(q, ta, rcpt)
    if rcpt.home is Home.IBDB:
        ta.ibdb_open -= 1
        is_last = ta.ibdb_open == 0
        gone = Gone(ta.ta, ta.content, ta.may_have_file) if is_last and not ta.deferred else None
        out.append(WriteIbdb((RcptEnd(rcpt.idx, how, is_last, ta.ta),), gone))
        return
    aq.count_deferred(q, ta, -1)
    ended: tuple[str, ...] = ()
    goes: Content | None = None
    if not ta.deferred:
        ended = (ta.ta,)
        goes = ta.content if ta.ibdb_open == 0 else None
    out.append(WriteDefedb(Change((), ((ta.ta, rcpt.idx),), ended), EndedThere(ta.ta, rcpt.idx, how, goes)))


def on_ended_there(q: Qmgr, then: EndedThere, out: list[Effect]) -> None:
    """DEFEDB has the end of a recipient: IBDB's record of its attempt ends too."""
    records = (RcptEnd(then.idx, then.how, False, then.ta),)
    if then.content is not None:
        content.ended_in_defedb(then.ta, then.content, records, out)
    else:
        out.append(WriteIbdb(records))
