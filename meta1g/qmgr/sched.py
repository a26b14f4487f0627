"""The scheduler: which recipients go to which session next; pure (M1 3.8.1, 7.1).

Rules
    Sites with work take turns, and at a site the senders do (`waiting`). A site uses an idle
    session before it opens another, and opens no more than OCC allows. When SMTPC has no place, the
    session that has been idle for longest, at whatever site, gives its own; while a site waits for a
    place none idles.
    A task holds recipients of one transaction and one envelope sender, as many as the
    protocol's limit.
    While AQ is more than half full no site of several may have more than SITE_SHARE of it: what is over goes to
    DEFEDB.
"""
from meta1g.mta import addr
from meta1g.mta.ids import rcpt_id
from meta1g.mta.reply import Reply
from meta1g.proto.msg_ar import Hop, Protocol
from meta1g.proto.msg_da import CloseSession, DaRcpt, Deliver, Released, Stage, TlsLevel
from meta1g.qmgr import outcome, parking, verp
from meta1g.qmgr.effects import Attempted, Effect, LogLine, Tell, WriteIbdb
from meta1g.qmgr.host_conf import WRONG, SessionConf
from meta1g.qmgr.occ import OccEntry
from meta1g.qmgr.state import DaSession, PeerKey, Qmgr, Rcpt, RState, Site, SiteKey, Ta, Task
from meta1g.qmgr.waiting import Batch
from meta1g.shim.records import Attempt, Tried

IDLE_MAX = 2.0  # seconds an idle session is kept for more work; Postfix's connection cache holds 2 s too
SITE_SHARE = 0.25
GATHER_MAX = 1.0  # seconds that recipients wait for others of their message, so that they share a transaction
_RESTS = Reply(451, "4.4.1", "Host was not reachable lately")
_CROWDED = Reply(451, "4.4.5", "Too much mail waits for this host")
_WRONG = Reply(451, "4.3.5", "Configuration for this host has a mistake")


def make_ready(q: Qmgr, ta: Ta, rcpt: Rcpt, now: float, out: list[Effect]) -> None:
    """Put a recipient with a route to its site; hosts that rest are passed over, what is held is parked."""
    if outcome.end_by_verdict(q, ta, rcpt, now, out):
        return
    if parking.is_held(q, rcpt):
        parking.park(q, ta, rcpt, now, out)
        return
    while rcpt.hop < len(rcpt.hops):
        hop = rcpt.hops[rcpt.hop]
        entry = q.occ.entry((hop.ip, hop.port), now, q.rules.limits(hop.ip, rcpt.address))
        conf = q.hosts.session_of(hop.ip) if q.settings.looks_up_sessions else SessionConf()
        if entry.limit > 0 and conf.feature != WRONG:
            break
        rcpt.reply, rcpt.said = _WRONG if conf.feature == WRONG else entry.reply or _RESTS, None
        rcpt.stage = Stage.CONNECT
        rcpt.hop += 1
    else:
        outcome.defer(q, ta, rcpt, rcpt.reply, now, out)
        return
    source = q.hosts.source_of(ta.client_ip, ta.mail)
    base = rcpt.records[0].base if rcpt.records else ""
    host = hop.name if q.settings.keeps_hosts_apart else ""
    site = _site(q, SiteKey(rcpt.protocol, hop.ip, hop.port, source, base, host), hop, entry, conf)
    if _is_crowded(q, site):
        outcome.defer(q, ta, rcpt, _CROWDED, now, out, is_tried=False)
        return
    rcpt.state, rcpt.since, rcpt.said = RState.READY, now, None
    site.waiting.add(_batch(q, ta, rcpt), rcpt)
    q.ready[site.key] = None


def _batch(q: Qmgr, ta: Ta, rcpt: Rcpt) -> Batch:
    return Batch((ta.client_ip, addr.split(ta.mail)[1]), ta.mail, ta.ta, verp.sender_of(q.settings.verp, ta, rcpt))


def _is_crowded(q: Qmgr, site: Site) -> bool:
    most = q.settings.aq_entries_max
    return len(q.sites) > 1 and q.aq_rcpts > most // 2 and len(site.waiting) >= most * SITE_SHARE


def _site(q: Qmgr, key: SiteKey, hop: Hop, entry: OccEntry, conf: SessionConf) -> Site:
    site = q.sites.get(key)
    if site is None:
        site = q.sites[key] = Site(key, hop, entry)
        entry.sites[key] = None
    site.conf = conf
    return site


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
        elif _first(q, site, now) is not None:
            del q.ready[key]
            if site.occ.may_open(now):
                q.starved[key] = None


def wake_all(q: Qmgr) -> None:
    """Look at every site that has work: SMTPC has places again, or simply time has passed."""
    starved, q.starved = q.starved, {}
    for key in (*starved, *q.sites):
        if q.sites[key].waiting:
            q.ready[key] = None


def _give_one(q: Qmgr, site: Site, now: float, out: list[Effect]) -> bool:
    batch = _first(q, site, now)
    session = _session(q, site, now, out) if batch is not None else None
    if batch is None or session is None:
        return False
    is_lmtp = site.key.protocol != Protocol.ESMTP
    most = q.settings.lmtp_rcpts_max if is_lmtp else q.settings.smtp_rcpts_max
    part = site.waiting.take(batch, most)
    q.next_number += 1
    task = Task(q.next_number, session.number, batch.ta, batch.sender, part, now, is_new=session.done == 0)
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
    site = q.sites[session.site]
    told = Deliver(
        session.number, number, site.key.protocol, ta.size, TlsLevel.ALL, task.is_new, ta.is_8bit, ta.is_utf8, task.ta,
        "", "", "", "", task.sender, ta.mail_params,
        tuple([DaRcpt(rcpt.idx, rcpt.conf, rcpt.address, rcpt.params, rcpt.records) for rcpt in task.rcpts]),
        (ta.content,), ())
    if task.is_new:
        told = told._replace(hop=(site.hop,), source=_source(q, session), feature=site.conf.feature,
                             conf=site.conf.conf, cert_fp=site.occ.cert_fp, tls_level=_tls_level(site))
    out.append(Tell(session.peer, told))
    let_leave(q, session.peer, out)


def let_leave(q: Qmgr, peer: PeerKey, out: list[Effect]) -> None:
    """Release an SMTP client that leaves, when all that it shall do still is on its way to it."""
    client = q.smtpc.get(peer)
    if client is None or not client.waits:
        return
    untold = [q.sessions.get(task.session) for task in q.tasks.values() if not task.is_told]
    if not any(session is not None and session.peer is peer for session in untold):
        client.waits = False
        out.append(Tell(peer, Released(client.sessions)))


def _tls_level(site: Site) -> int:
    """How much of TLS is tried; some is always where TLSA records want it (RFC 7672 2.2)."""
    return min(site.occ.tls_level, TlsLevel.OLD) if site.key.base else site.occ.tls_level


def _source(q: Qmgr, session: DaSession) -> str:
    """The local address of a new session, empty for any; one of a section source's, by luck."""
    key = session.site
    ips = [ip for ip in q.settings.sources.get(key.source, ()) if (":" in ip) == (":" in key.ip)]
    return ips[int(q.luck() * len(ips)) % len(ips)] if ips else ""


def _first(q: Qmgr, site: Site, now: float) -> Batch | None:
    """Whose turn it is at a site, among those to which no more recipients of the message are about to come."""
    return site.waiting.first(lambda batch, rcpts: q.aq[batch.ta].unrouted == 0 or now - rcpts[0].since >= GATHER_MAX)


def _session(q: Qmgr, site: Site, now: float, out: list[Effect]) -> DaSession | None:
    if site.idle:
        number = site.idle.pop()
        del q.idle[number]
        return q.sessions[number]
    if not site.occ.rate_allows(now):
        return None
    if not site.occ.may_open(now):
        _end_idle_sibling(q, site, out)
        if not site.occ.may_open(now):
            return None
    session = _new_session(q, site, now)
    if session is None and q.idle:
        close_session(q, q.sessions[next(iter(q.idle))], out)
        session = _new_session(q, site, now)
    return session


def _end_idle_sibling(q: Qmgr, site: Site, out: list[Effect]) -> None:
    """A session to the same address that idles, but is bound to other local addresses, gives its place."""
    for key in site.occ.sites:
        if q.sites[key].idle:
            close_session(q, q.sessions[q.sites[key].idle[0]], out)
            return


def _new_session(q: Qmgr, site: Site, now: float) -> DaSession | None:
    """A session more for a site; None if no SMTPC has a place."""
    free = [peer for peer, client in q.smtpc.items() if client.sessions < client.sessions_max]
    if not free:
        return None
    peer = min(free, key=lambda peer: q.smtpc[peer].sessions)
    q.next_number += 1
    session = q.sessions[q.next_number] = DaSession(q.next_number, peer, site.key)
    site.open += 1
    site.occ.opened(now)
    q.smtpc[peer].sessions += 1
    return session


def finish_task(q: Qmgr, session: DaSession, *, is_open: bool, now: float, out: list[Effect]) -> None:
    """The session has no task any more: keep it for more work, or end it."""
    session.task = 0
    if not is_open:
        end_session(q, session)
        return
    settings, site = q.settings, q.sites[session.site]
    client = q.smtpc.get(session.peer)
    is_leaving = client is not None and not client.sessions_max
    is_spent = is_leaving or not settings.reuses_connections or session.done >= site.occ.limits.transactions
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
    site.occ.open -= 1
    if session.number in q.idle:
        del q.idle[session.number]
        site.idle.remove(session.number)
    starved = next(iter(q.starved), None)
    if starved is not None:  # the place at SMTPC is for who has waited longest
        del q.starved[starved]
        q.ready[starved] = None
    for key in site.occ.sites:
        if q.sites[key].waiting:
            q.ready[key] = None
    _forget(q, site)


def close_idle(q: Qmgr, now: float, out: list[Effect]) -> None:
    """End sessions that have had no work for a while."""
    for session in [s for s in map(q.sessions.__getitem__, q.idle) if now - s.since > IDLE_MAX]:
        close_session(q, session, out)


def host_rests(q: Qmgr, entry: OccEntry, reply: Reply, now: float, out: list[Effect]) -> None:
    """Nothing more goes to this address for now: what waits there tries its next host, or later."""
    for key in list(entry.sites):
        site = q.sites[key]
        q.ready.pop(key, None)
        for name, rcpt in site.waiting.take_all():
            rcpt.reply = reply
            rcpt.hop += 1
            make_ready(q, q.aq[name], rcpt, now, out)
        _forget(q, site)


def try_next(q: Qmgr, ta: Ta, rcpt: Rcpt, reply: Reply, now: float, out: list[Effect]) -> None:
    """A recipient goes to the next host of its route, or is deferred if there is none."""
    rcpt.hop += 1
    if rcpt.hop < len(rcpt.hops):
        rcpt.reply = reply
        make_ready(q, ta, rcpt, now, out)
    else:
        outcome.defer(q, ta, rcpt, reply, now, out)


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
        for batch, rcpts in list(site.waiting):
            if now - rcpts[0].since > q.settings.scheduler_timeout:
                for rcpt in site.waiting.take(batch, len(rcpts)):
                    outcome.defer(q, q.aq[batch.ta], rcpt, Reply(451, "4.4.5", "No free session in time"), now, out)
        _forget(q, site)


def _forget(q: Qmgr, site: Site) -> None:
    if not site.waiting and not site.open:
        if q.sites.pop(site.key, None) is not None:
            del site.occ.sites[site.key]
        q.ready.pop(site.key, None)
        q.starved.pop(site.key, None)
