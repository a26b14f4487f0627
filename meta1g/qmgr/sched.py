"""The scheduler: which recipients go to which session next; pure (M1 3.8.1, 7.1).

Rules
    Sites with work take turns. A site uses an idle session before it opens another, and
    opens no more than OCC allows. When SMTPC has no place, the session that has been idle
    for longest, at whatever site, gives its own; while a site waits for a place none idles.
    A task holds recipients of one transaction and one envelope sender, as many as the
    protocol's limit.
"""
from collections.abc import Iterator

from meta1g.mta.ids import rcpt_id
from meta1g.mta.reply import Reply
from meta1g.proto.msg_ar import Protocol
from meta1g.proto.msg_da import CloseSession, DaRcpt, Deliver
from meta1g.qmgr import outcome, parking, verp
from meta1g.qmgr.effects import Attempted, Effect, LogLine, Tell, WriteIbdb
from meta1g.qmgr.occ import Address
from meta1g.qmgr.state import DaSession, Qmgr, Rcpt, RState, Site, Ta, Task
from meta1g.shim.records import Attempt, Tried

IDLE_MAX = 2.0  # seconds an idle session is kept for more work; Postfix's connection cache holds 2 s too
GATHER_MAX = 1.0  # seconds that recipients wait for others of their message, so that they share a transaction
_RESTS = Reply(451, "4.4.1", "Host was not reachable lately")


def make_ready(q: Qmgr, ta: Ta, rcpt: Rcpt, now: float, out: list[Effect]) -> None:
    """Put a recipient with a route to its site; hosts that rest are passed over, what is held is parked."""
    if parking.is_held(q, rcpt):
        parking.park(q, ta, rcpt, now, out)
        return
    while rcpt.hop < len(rcpt.hops):
        hop = rcpt.hops[rcpt.hop]
        entry = q.occ.entry((hop.ip, hop.port), now, q.settings.initial_connections)
        if entry.limit > 0:
            break
        rcpt.reply = entry.reply or _RESTS
        rcpt.hop += 1
    else:
        outcome.defer(q, ta, rcpt, rcpt.reply, now, out)
        return
    rcpt.state, rcpt.since = RState.READY, now
    key = (rcpt.protocol, hop.ip, hop.port)
    site = q.sites.get(key)
    if site is None:
        site = q.sites[key] = Site(key, hop)
    site.waiting.setdefault((ta.ta, verp.sender_of(q.settings.verp, ta, rcpt)), []).append(rcpt)
    q.ready[key] = None


def schedule(q: Qmgr, now: float, out: list[Effect]) -> None:
    """Give work to sessions until nothing more can be given.

    A site that can't have a session is not looked at again before something changes for it, so that
    a turn costs the same whether ten or ten thousand destinations wait.
    """
    for key in list(q.ready):
        site = q.sites.get(key)
        if site is None:
            continue  # its last session gave its place to a site before it in this list
        while site.waiting and _give_one(q, site, now, out):
            pass
        if not site.waiting:
            del q.ready[key]
            _forget(q, site)
        elif next(_gathered(q, site, now), None) is not None:
            del q.ready[key]
            if site.open < q.occ.entry(key[1:], now, q.settings.initial_connections).limit:
                q.starved[key] = None


def wake_all(q: Qmgr) -> None:
    """Look at every site that has work: SMTPC has places again, or simply time has passed."""
    q.starved.clear()
    for key, site in q.sites.items():
        if site.waiting:
            q.ready[key] = None


def _give_one(q: Qmgr, site: Site, now: float, out: list[Effect]) -> bool:
    entry = next(_gathered(q, site, now), None)
    session = _session(q, site, now, out) if entry is not None else None
    if entry is None or session is None:
        return False
    (name, sender), rcpts = entry, site.waiting[entry]
    is_lmtp = site.key[0] != Protocol.ESMTP
    most = q.settings.lmtp_rcpts_max if is_lmtp else q.settings.smtp_rcpts_max
    part, rest = rcpts[:most], rcpts[most:]
    if rest:
        site.waiting[name, sender] = rest
    else:
        del site.waiting[name, sender]
    q.next_number += 1
    task = Task(q.next_number, session.number, name, sender, part, now, is_new=session.done == 0)
    q.tasks[task.number] = task
    session.task, session.done, session.since = task.number, session.done + 1, now
    for rcpt in part:
        rcpt.state, rcpt.since = RState.BUSY, now
    q.counters.attempts += len(part)
    _begin_attempt(q, task, out)
    return True


def _begin_attempt(q: Qmgr, task: Task, out: list[Effect]) -> None:
    """Put the attempt on record first, so that a crash knows whose outcome is uncertain (design 5)."""
    tried = tuple([Tried(rcpt.idx) for rcpt in task.rcpts if not rcpt.is_tried])
    for rcpt in task.rcpts:
        rcpt.is_tried = True
    if tried:
        out.append(WriteIbdb((Attempt(False, task.ta, tried),), Attempted(task.number), is_urgent=True))
    else:
        deliver(q, task.number, out)


def deliver(q: Qmgr, number: int, out: list[Effect]) -> None:
    """The attempt is on record: give the task to SMTPC."""
    task = q.tasks.get(number)
    if task is None:
        return  # its session ended meanwhile
    task.is_told = True
    session, ta = q.sessions[task.session], q.aq[task.ta]
    out.append(Tell(session.peer, Deliver(
        session.number, number, session.site[0], ta.size, task.is_new, ta.is_8bit, ta.is_utf8, task.ta,
        task.sender, ta.mail_params, tuple([DaRcpt(rcpt.idx, rcpt.address, rcpt.params) for rcpt in task.rcpts]),
        (ta.content,), (q.sites[session.site].hop,) if task.is_new else ())))


def _gathered(q: Qmgr, site: Site, now: float) -> Iterator[tuple[str, bytes]]:
    """Keys of what waits at a site and will not grow: no more recipients of the message are about to come."""
    for key, rcpts in site.waiting.items():
        if q.aq[key[0]].unrouted == 0 or now - rcpts[0].since >= GATHER_MAX:
            yield key


def _session(q: Qmgr, site: Site, now: float, out: list[Effect]) -> DaSession | None:
    if site.idle:
        number = site.idle.pop()
        del q.idle[number]
        return q.sessions[number]
    if site.open >= q.occ.entry(site.key[1:], now, q.settings.initial_connections).limit:
        return None
    session = _new_session(q, site)
    if session is None and q.idle:
        close_session(q, q.sessions[next(iter(q.idle))], out)
        session = _new_session(q, site)
    return session


def _new_session(q: Qmgr, site: Site) -> DaSession | None:
    """A session more for a site; None if no SMTPC has a place."""
    for peer, client in q.smtpc.items():
        if client.sessions < client.sessions_max:
            q.next_number += 1
            session = DaSession(q.next_number, peer, site.key)
            q.sessions[session.number] = session
            site.open += 1
            client.sessions += 1
            return session
    return None


def finish_task(q: Qmgr, session: DaSession, *, is_open: bool, now: float, out: list[Effect]) -> None:
    """The session has no task any more: keep it for more work, or end it."""
    session.task = 0
    if not is_open:
        end_session(q, session)
        return
    settings, site = q.settings, q.sites[session.site]
    is_spent = not settings.reuses_connections or session.done >= settings.transactions_per_session_max
    if is_spent or (q.starved and not site.waiting):
        close_session(q, session, out)
        return
    session.since = now
    site.idle.append(session.number)
    q.idle[session.number] = None
    if site.waiting:
        q.ready[site.key] = None


def close_session(q: Qmgr, session: DaSession, out: list[Effect]) -> None:
    """Tell SMTPC to say QUIT, and forget the session."""
    out.append(Tell(session.peer, CloseSession(session.number)))
    end_session(q, session)


def end_session(q: Qmgr, session: DaSession) -> None:
    """The session is gone."""
    q.sessions.pop(session.number, None)
    client = q.smtpc.get(session.peer)
    if client is not None:
        client.sessions -= 1
    site = q.sites.get(session.site)
    if site is None:
        return
    site.open -= 1
    if session.number in q.idle:
        del q.idle[session.number]
        site.idle.remove(session.number)
    if site.waiting:
        q.ready[site.key] = None
    _forget(q, site)
    starved = next(iter(q.starved), None)
    if starved is not None:  # the place at SMTPC is for who has waited longest
        del q.starved[starved]
        q.ready[starved] = None


def close_idle(q: Qmgr, now: float, out: list[Effect]) -> None:
    """End sessions that have had no work for a while."""
    for session in [s for s in map(q.sessions.__getitem__, q.idle) if now - s.since > IDLE_MAX]:
        close_session(q, session, out)


def host_rests(q: Qmgr, address: Address, reply: Reply, now: float, out: list[Effect]) -> None:
    """Nothing more goes to this address for now: what waits there tries its next host, or later."""
    for key in [key for key in q.sites if key[1:] == address]:
        site = q.sites[key]
        waiting, site.waiting = site.waiting, {}
        q.ready.pop(key, None)
        for (name, _), rcpts in waiting.items():
            for rcpt in rcpts:
                rcpt.reply = reply
                rcpt.hop += 1
                make_ready(q, q.aq[name], rcpt, now, out)
        _forget(q, site)


def requeue(q: Qmgr, task: Task, reply: Reply, now: float, out: list[Effect], *, is_lost: bool) -> None:
    """A task ended without results: its recipients go back, or are deferred if that happens too often."""
    ta = q.aq.get(task.ta)
    if ta is None:
        return
    for rcpt in task.rcpts:
        if is_lost and task.is_told:
            out.append(_uncertain(ta, rcpt))
        rcpt.requeued += 1
        if rcpt.requeued > 3:
            outcome.defer(q, ta, rcpt, reply, now, out)
        else:
            make_ready(q, ta, rcpt, now, out)


def _uncertain(ta: Ta, rcpt: Rcpt) -> LogLine:
    """Names a recipient whose last attempt's outcome is not known (design 5)."""
    return LogLine(1, f"func=q_requeue, rcpt_id={rcpt_id(ta.ta, rcpt.idx)}, status=uncertain")


def expire(q: Qmgr, now: float, out: list[Effect]) -> None:
    """Tasks without an answer, and recipients that no session took, go to DEFEDB (M1 8.3 items 3, 8)."""
    for task in [t for t in q.tasks.values() if now - t.began > q.settings.delivery_timeout]:
        del q.tasks[task.number]
        session = q.sessions.get(task.session)
        if session is not None:
            close_session(q, session, out)
        ta = q.aq[task.ta]
        for rcpt in task.rcpts:
            out.append(_uncertain(ta, rcpt))
            outcome.defer(q, ta, rcpt, Reply(451, "4.4.2", "No result of the delivery in time"), now, out)
    for site in list(q.sites.values()):
        for (name, sender), rcpts in list(site.waiting.items()):
            if now - rcpts[0].since > q.settings.scheduler_timeout:
                del site.waiting[name, sender]
                for rcpt in rcpts:
                    outcome.defer(q, q.aq[name], rcpt, Reply(451, "4.4.5", "No free session in time"), now, out)
        _forget(q, site)


def _forget(q: Qmgr, site: Site) -> None:
    if not site.waiting and not site.open:
        q.sites.pop(site.key, None)
        q.ready.pop(site.key, None)
        q.starved.pop(site.key, None)
