"""What SMTP clients say: results of deliveries, ends of sessions; pure."""
from meta1g.mta.reply import Reply
from meta1g.proto.dsn import Said
from meta1g.proto.msg_da import Delivered, Ready, Result, SessionEnded, Stage, TlsLevel, TlsSeen
from meta1g.qmgr import occ, outcome, sched
from meta1g.qmgr.effects import Effect, LogLine
from meta1g.qmgr.state import PeerKey, Qmgr, Rcpt, Site, SmtpcPeer, Ta, Task

_ENDED = Reply(451, "4.4.2", "Session ended before the message was sent")
_LOST = Reply(451, "4.3.0", "Delivery was interrupted, its result is not known")
_NO_TLS = Reply(451, "4.7.5", "TLS handshake failed")
_UNKNOWN = Reply(451, "4.3.0", "Delivery agent gave no result")

Message = Ready | Delivered | SessionEnded | TlsSeen


def on_up(q: Qmgr, peer: PeerKey) -> None:
    """An SMTP client is there; it says `Ready` next."""
    q.smtpc[peer] = SmtpcPeer()


def on_down(q: Qmgr, peer: PeerKey, now: float, out: list[Effect]) -> None:
    """An SMTP client is gone: its sessions are, and nobody knows what its tasks came to."""
    q.smtpc.pop(peer, None)
    for session in [s for s in q.sessions.values() if s.peer is peer]:
        _session_over(q, session.number, now, out, _LOST, is_lost=True)


def on_message(q: Qmgr, peer: PeerKey, message: Message, now: float, out: list[Effect]) -> None:
    """Anything that a client sends."""
    match message:
        case Delivered():
            _on_delivered(q, message, now, out)
        case SessionEnded():
            reply = _LOST if message.is_lost else _NO_TLS if message.has_no_tls else _ENDED
            site = _site_of(q, message.session) if message.has_no_tls else None
            is_hopeless = site is not None and _needs_tls(site)
            if site is not None:
                site.occ.tls_failed(now)
            _session_over(q, message.session, now, out, reply, is_lost=message.is_lost, is_hopeless=is_hopeless)
        case TlsSeen():
            site = _site_of(q, message.session)
            if site is not None:
                site.occ.saw(message.fingerprint, message.expires)
        case Ready():
            q.smtpc[peer].sessions_max = message.sessions_max
            if not message.sessions_max:
                _release(q, peer, out)
            sched.wake_all(q)


def _release(q: Qmgr, peer: PeerKey, out: list[Effect]) -> None:
    """An SMTP client leaves: its idle sessions end, those at work do when that is done."""
    for number in [number for number in q.idle if q.sessions[number].peer is peer]:
        sched.close_session(q, q.sessions[number], out)
    q.smtpc[peer].waits = True
    sched.let_leave(q, peer, out)


def _site_of(q: Qmgr, number: int) -> Site | None:
    """Where a session goes."""
    session = q.sessions.get(number)
    return q.sites.get(session.site) if session is not None else None


def _needs_tls(site: Site) -> bool:
    """Whether a handshake that failed there was the last to be tried, and TLSA records rule out to go without."""
    return bool(site.key.base) and site.occ.tls_level >= TlsLevel.OLD


def _session_over(
    q: Qmgr, number: int, now: float, out: list[Effect], reply: Reply, *, is_lost: bool, is_hopeless: bool = False
) -> None:
    session = q.sessions.get(number)
    if session is None:
        return
    task = q.tasks.pop(session.task, None)
    sched.end_session(q, session)
    ta = q.aq.get(task.ta) if task is not None and is_hopeless else None
    if task is not None and ta is not None:
        for rcpt in task.rcpts:
            rcpt.stage = Stage.EHLO
            sched.try_next(q, ta, rcpt, reply, now, out)
    elif task is not None:
        sched.requeue(q, task, reply, now, out, is_lost=is_lost)


def _on_delivered(q: Qmgr, message: Delivered, now: float, out: list[Effect]) -> None:
    task = q.tasks.pop(message.task, None)
    session = q.sessions.get(message.session)
    if session is not None:
        sched.finish_task(q, session, is_open=message.is_open, now=now, out=out)
    ta = q.aq.get(task.ta) if task is not None else None
    if task is None or ta is None:
        return
    if message.is_host and message.results and 0 <= message.results[0].stage < len(Stage.NAMES):
        _host_failed(q, ta, task, message, now, out)
        return
    results = {result.idx: result for result in message.results if 0 <= result.stage < len(Stage.NAMES)}
    is_good = False
    for rcpt in task.rcpts:
        result = results.get(rcpt.idx)
        is_good |= result is not None and result.code == 0
        _on_result(q, ta, rcpt, task, result, now, out, reports=not message.has_dsn)
    if is_good:
        _entry(q, task.rcpts[0], now).succeeded()


def _on_result(
    q: Qmgr, ta: Ta, rcpt: Rcpt, task: Task, result: Result | None, now: float, out: list[Effect], *, reports: bool
) -> None:
    if result is None:
        outcome.failed(q, ta, rcpt, _UNKNOWN, now, out)
        return
    rcpt.stage = result.stage
    rcpt.said = _said(rcpt, result)
    if rcpt.records and not result.is_said and result.code // 100 == 4 and result.stage in (Stage.EHLO, Stage.DANE):
        sched.try_next(q, ta, rcpt, Reply(result.code, result.estat, result.text), now, out)  # RFC 7672 2.2
        return
    if result.code == 0:
        reply = Reply(250, result.estat or "2.0.0", result.text)
        outcome.delivered(q, ta, rcpt, task.began, now, out, reply if reports else None)
    else:
        outcome.failed(q, ta, rcpt, Reply(result.code, result.estat, result.text), now, out)


def _host_failed(q: Qmgr, ta: Ta, task: Task, message: Delivered, now: float, out: list[Effect]) -> None:
    """The host, not the message, is to blame: OCC shrinks, the recipients try their next host."""
    result = message.results[0]
    reply = Reply(result.code, result.estat, result.text)
    entry = _entry(q, task.rcpts[0], now)
    rests = entry.failed(now, reply, q.settings.retry_delay_min, q.settings.retry_delay_max)
    if rests:
        address = _address(task.rcpts[0])
        out.append(LogLine(9, f"func=q_occ, ip={address[0]}, port={address[1]}, status=rests, reply={reply}"))
    for rcpt in task.rcpts:
        rcpt.stage, rcpt.reply, rcpt.said = result.stage, reply, _said(rcpt, result)
        rcpt.hop += 1
        if rcpt.hop < len(rcpt.hops):
            sched.make_ready(q, ta, rcpt, now, out)
        elif reply.is_temporary or result.stage < Stage.MAIL:
            outcome.defer(q, ta, rcpt, reply, now, out)
        else:
            outcome.failed(q, ta, rcpt, reply, now, out)
    if rests:
        sched.host_rests(q, entry, reply, now, out)


def _said(rcpt: Rcpt, result: Result) -> Said | None:
    """The server's own words, if they are what decided."""
    if not result.is_said or not rcpt.hops:
        return None
    hop = rcpt.hops[min(rcpt.hop, len(rcpt.hops) - 1)]
    return Said(Reply(result.code or 250, result.estat, result.text), hop.name, hop.ip)


def _entry(q: Qmgr, rcpt: Rcpt, now: float) -> occ.OccEntry:
    address = _address(rcpt)
    return q.occ.entry(address, now, q.rules.limits(address[0], rcpt.address))


def _address(rcpt: Rcpt) -> occ.Address:
    hop = rcpt.hops[min(rcpt.hop, len(rcpt.hops) - 1)]
    return hop.ip, hop.port

