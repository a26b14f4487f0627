"""What time brings: due recipients, idle sessions, limits; and what comes back from the stores; pure."""
import math
from typing import Any

from meta1g.mta import logfmt
from meta1g.mta.reply import Reply
from meta1g.proto.msg_ar import Hop
from meta1g.qmgr import aq, bounce, content, on_ctl, on_smar, on_smtps, outcome, routing, sched, throttle
from meta1g.qmgr.effects import (
    Accepted,
    Attempted,
    BounceCleared,
    Bounced,
    Deferred,
    DiskFree,
    Done,
    Effect,
    EndedThere,
    Expanded,
    Gone,
    Loaded,
    LogLine,
    SettledStored,
    Waits,
)
from meta1g.qmgr.state import NO_REPLY, Home, Qmgr, Rcpt, RState, Ta
from meta1g.shim.defedb import Waiting
from meta1g.shim.records import DeferredRcpt, DeferredTa

TICK = 1.0  # seconds between two looks at limits and idle sessions


def on_tick(q: Qmgr, now: float, out: list[Effect]) -> None:
    """Once a second."""
    sched.close_idle(q, now, out)
    sched.expire(q, now, out)
    sched.wake_all(q)
    _expire_questions(q, now, out)
    _miss_peers(q, now, out)
    bounce.expire(q, now, out)
    q.occ.trim(now, q.settings.occ_entries_max)
    q.icc.trim(now, q.settings.in_clients_max)
    content.rotate_idle(q, out)
    throttle.throttle(q, out)
    on_ctl.go_on(q, out)


def _miss_peers(q: Qmgr, now: float, out: list[Effect]) -> None:
    """Say once that mail waits for a process that is not there (M1 3.8 items 19, 20)."""
    settings = q.settings
    for name, is_there, wait in (("smar", q.smar is not None, settings.wait_for_server),
                                 ("smtpc", bool(q.smtpc), settings.wait_for_client)):
        if is_there:
            q.missing.pop(name, None)
        elif now - q.missing.setdefault(name, now) >= wait:
            q.missing[name] = math.inf
            out.append(LogLine(0, f"func=q_peer, peer={name}, status=not there, mail waits for it"))


def _expire_questions(q: Qmgr, now: float, out: list[Effect]) -> None:
    limit = now - q.settings.smar_timeout - 10.0  # SMAR itself answers within its timeout
    for tag, (name, idx) in list(q.asked.items()):
        ta = q.aq.get(name)
        rcpt = ta.rcpts.get(idx) if ta is not None else None
        if ta is None or rcpt is None:
            del q.asked[tag]
        elif rcpt.since < limit:
            del q.asked[tag]
            _give_up_route(q, ta, rcpt, now, out)
    if q.smar is None:
        for ta in list(q.aq.values()):
            for rcpt in list(ta.rcpts.values()):
                if rcpt.state is RState.ROUTING and rcpt.since < limit:
                    _give_up_route(q, ta, rcpt, now, out)


def _give_up_route(q: Qmgr, ta: Ta, rcpt: Rcpt, now: float, out: list[Effect]) -> None:
    ta.unrouted -= 1
    outcome.defer(q, ta, rcpt, Reply(451, "4.4.3", "Address resolver did not answer in time"), now, out)


def on_disk(q: Qmgr, message: DiskFree, out: list[Effect]) -> None:
    """Free space was measured (M1 3.8 items 10, 11)."""
    q.disk_free = message.octets
    was_low = q.is_disk_low
    limit = q.settings.disk_space_ok if was_low else q.settings.disk_space_min
    q.is_disk_low = message.octets < limit
    if q.is_disk_low != was_low:
        out.append(LogLine(0 if q.is_disk_low else 9, logfmt.fields(
            func="q_disk", free=message.octets, status="too little space" if q.is_disk_low else "space is back")))
        throttle.throttle(q, out)


def on_done(q: Qmgr, done: Done, now: float, out: list[Effect]) -> None:
    """A write is on stable storage: take the step that waited for it."""
    then: Any = done.then
    match then:
        case Accepted():
            on_smtps.on_accepted(q, then, done.error, done.is_full, now, out)
        case Attempted():
            sched.deliver(q, then.task, out)
        case Gone():
            content.on_gone(q, then, out)
        case EndedThere():
            outcome.on_ended_there(q, then, out)
        case Waits():
            outcome.on_waits(q, then)
        case Expanded():
            on_smar.on_expanded(q, then, now, out)
        case Deferred():
            outcome.on_deferred(q, then, out)
        case Bounced():
            bounce.on_bounced(q, then, now, out)
        case BounceCleared():
            bounce.on_cleared(q, then, now, out)
        case SettledStored():
            content.release(q, then.ta, then.segment, out)
        case ("welcome", peer, first):
            on_smtps.on_welcome(q, peer, first, out)


def on_loaded(q: Qmgr, message: Loaded, now: float, out: list[Effect]) -> None:
    """Recipients came from DEFEDB into AQ."""
    q.loading -= len(message.idxs)
    q.reading.pop(message.name, None)
    for idx in set(message.idxs).difference(message.lost, (entry.idx for entry in message.rcpts)):
        q.verdicts.pop((message.name, idx), None)  # it has ended meanwhile
    if message.lost:
        out.append(LogLine(0, logfmt.fields(
            func="q_load", ss_ta=message.name, rcpts=len(message.lost), error=message.error)))
        for idx in message.lost:
            q.edbc.postpone(Waiting(now + q.settings.retry_delay_max, message.name, idx))
    ta = q.aq.get(message.name)
    if ta is None and message.ta is not None and message.rcpts:
        ta = ta_from(message.ta, message.total)
        aq.add(q, ta)
    if ta is None:
        return
    fresh = [rcpt_from(entry) for entry in message.rcpts]
    for rcpt in fresh:  # all of them first: one that ends at once must not end the transaction
        aq.add_rcpt(q, ta, rcpt)
    for rcpt in fresh:
        routing.start(q, ta, rcpt, now, out)
    aq.drop_if_empty(q, ta)


def ta_from(record: DeferredTa, total: int) -> Ta:
    """A transaction as DEFEDB holds it, with so many recipients there."""
    return Ta(record.ta, record.mail, record.mail_params, record.received, record.size, record.is_8bit,
              record.is_utf8, record.client_ip, record.content[0], next_idx=record.next_idx, deferred=total,
              stored_idx=record.next_idx)


def rcpt_from(entry: DeferredRcpt) -> Rcpt:
    """A recipient as DEFEDB holds it."""
    reply = Reply(entry.code, entry.estat, entry.text) if entry.code else NO_REPLY
    hops: tuple[Hop, ...] = entry.hops
    return Rcpt(entry.idx, entry.address, entry.params, entry.sender if entry.has_sender else None,
                entry.is_expanded, Home.DEFEDB, RState.ROUTING, entry.tries, 0.0, entry.protocol, hops, 0,
                entry.route_expires, entry.stage, reply, entry.is_warned)
