"""What SMTP servers say, and the answers; pure."""
from meta1g.mta import logfmt
from meta1g.proto.msg_ss import (
    Composed,
    JournalOpen,
    Leaving,
    Names,
    SeAck,
    SeEnd,
    SeNew,
    Settled,
    Statistics,
    TaAck,
    TaCommit,
    Welcome,
)
from meta1g.proto.rcb import Hello
from meta1g.qmgr import bounce, content, routing
from meta1g.qmgr.effects import (
    Accepted,
    Effect,
    Gone,
    LogLine,
    RemoveContent,
    SettledStored,
    Tell,
    WriteDefedb,
    WriteIbdb,
)
from meta1g.qmgr.state import Incoming, PeerKey, Qmgr, Rcpt, SmtpsPeer, Ta
from meta1g.shim.defedb import Change
from meta1g.shim.records import IdsGiven, Outcome, RcptEnd, RcptRec, TaNew

REST = 1.0  # seconds without new mail after the disk has refused some
_TROUBLE = "Local storage trouble, try again later"
IDS_PER_PROCESS = 1 << 32  # ids given at once; 2**31 such gifts are left in 64 bits

Message = SeNew | SeEnd | TaCommit | JournalOpen | Composed | Settled | Leaving | Statistics


def on_up(q: Qmgr, peer: PeerKey, hello: Hello, now: float, out: list[Effect]) -> None:
    """An SMTP server is there: give it ids, once the gift is on stable storage."""
    q.smtps[peer] = SmtpsPeer(hello.process, pid=hello.pid)
    first = q.ids_next + 1
    q.ids_next += 2 * IDS_PER_PROCESS  # the second half is for our own DSNs
    out.append(WriteIbdb((IdsGiven(q.ids_next),), ("welcome", peer, first), is_urgent=True))


def on_welcome(q: Qmgr, peer: PeerKey, first: int, out: list[Effect]) -> None:
    """The ids are safely given away: let the server work."""
    if peer not in q.smtps:
        return
    out.append(Tell(peer, Welcome(first, first + IDS_PER_PROCESS - 1, q.settings.smtps_sessions_max)))
    if q.hosts.wants_names:
        out.append(Tell(peer, Names(True)))
    q.dsn_next = first + IDS_PER_PROCESS
    q.throttled_to = -1
    for ta in q.aq.values():
        if ta.deferred:
            content.settle(q, ta, peer, out)


def on_down(q: Qmgr, peer: PeerKey, out: list[Effect]) -> None:
    """An SMTP server is gone, and its sessions with it."""
    server = q.smtps.pop(peer, None)
    if server is not None:
        for client_ip, count in server.clients.items():
            for _ in range(count):
                q.icc.close(client_ip)
    bounce.on_peer_gone(q, peer, out)
    q.settling = {ta: settler for ta, settler in q.settling.items() if settler is not peer}
    q.overtaken &= q.settling.keys()
    content.let_go(q, out)


def on_message(q: Qmgr, peer: PeerKey, message: Message, tag: int, now: float, out: list[Effect]) -> None:
    """Anything that a server sends."""
    match message:
        case TaCommit():
            _on_commit(q, peer, message, tag, now, out)
        case SeNew():
            _on_session(q, peer, message, tag, now, out)
        case SeEnd():
            _on_session_end(q, peer, message.client_ip)
        case JournalOpen():
            content.on_open_segments(q, peer, frozenset(segment.name for segment in message.segments), out)
        case Composed():
            bounce.on_composed(q, message, now, out)
        case Settled():
            _on_settled(q, message, out)
            content.let_go(q, out)
        case Statistics():
            q.smtps[peer].statistics = message.text
        case Leaving():
            content.on_leaving(q, peer, message.pid, out)


def _on_session(q: Qmgr, peer: PeerKey, message: SeNew, tag: int, now: float, out: list[Effect]) -> None:
    settings = q.settings
    ip, name = message.client_ip, message.client_name
    refusal = q.icc.open(ip, now, q.hosts.in_rate(ip, name, settings.in_rate_max),
                         q.hosts.in_open(ip, name, settings.in_connections_max))
    if not refusal:
        q.counters.sessions += 1
        server = q.smtps[peer]
        server.sessions += 1
        server.clients[message.client_ip] = server.clients.get(message.client_ip, 0) + 1
        out.append(Tell(peer, SeAck(0, "", ""), tag))
        return
    q.counters.refused += 1
    if refusal == "open":
        q.counters.refused_open += 1
    else:
        q.counters.refused_rate += 1
    text = "Too many open connections" if refusal == "open" else "Connection rate limit exceeded"
    out.append(Tell(peer, SeAck(421, "4.7.0", f"{text}, try again later"), tag))


def _on_session_end(q: Qmgr, peer: PeerKey, client_ip: str) -> None:
    server = q.smtps.get(peer)
    if server is None or client_ip not in server.clients:
        return  # it began before QMGR did
    server.sessions -= 1
    server.clients[client_ip] -= 1
    if not server.clients[client_ip]:
        del server.clients[client_ip]
    q.icc.close(client_ip)


def _on_commit(q: Qmgr, peer: PeerKey, message: TaCommit, tag: int, now: float, out: list[Effect]) -> None:
    place = message.content[0]
    refusal = _refusal(q, message, now)
    if refusal is not None:
        q.counters.refused_full += refusal.code == 452
        out.append(Tell(peer, refusal, tag))
        if not place.segment:
            out.append(RemoveContent(message.ta, place))
        return
    count = len(message.rcpts)
    ta = Ta(message.ta, message.mail, message.mail_params, message.received, message.size, message.is_8bit,
            message.is_utf8, message.client_ip, place, next_idx=count, ibdb_open=count,
            may_have_file=not place.segment)
    ta.rcpts = {rcpt.idx: Rcpt(rcpt.idx, rcpt.address, rcpt.params) for rcpt in message.rcpts}
    content.hold(q, message.ta, place)
    q.iqdb[message.ta] = Incoming(ta, peer, tag)
    q.iqdb_rcpts += count
    record = TaNew(
        message.received, message.size, message.is_8bit, message.is_utf8, message.ta, message.client_ip,
        message.mail, message.mail_params, "",
        tuple([RcptRec(rcpt.idx, False, False, rcpt.address, rcpt.params, b"") for rcpt in message.rcpts]),
        message.content, ())
    out.append(WriteIbdb((record,), Accepted(message.ta), is_urgent=True, may_fail=True))


def _refusal(q: Qmgr, message: TaCommit, now: float) -> TaAck | None:
    until, answer = q.refusal
    if now < until:
        return answer
    if q.is_disk_low:
        return TaAck(452, "4.3.1", "Insufficient disk space, try again later")
    count, settings = len(message.rcpts), q.settings
    if q.aq_rcpts + q.iqdb_rcpts + count > settings.aq_entries_max or (
            q.iqdb and q.iqdb_rcpts + count > settings.iqdb_entries_max):
        return TaAck(452, "4.3.2", "Queue is full, try again later")
    segment = message.content[0].segment
    if message.received < q.start or (segment and segment not in q.holders):
        # Recovery may have taken its content for an orphan.
        return TaAck(451, "4.3.0", "Content was given up, try again later")
    return None


def on_accepted(q: Qmgr, then: Accepted, error: str, is_full: bool, now: float, out: list[Effect]) -> None:
    """IBDB has answered: the message is ours (M1 7.1), or the client keeps it."""
    incoming = q.iqdb.pop(then.ta)
    ta = incoming.ta
    q.iqdb_rcpts -= len(ta.rcpts)
    if error:
        q.refusal = (now + REST, TaAck(452, "4.3.1", _TROUBLE) if is_full else TaAck(451, "4.3.0", _TROUBLE))
        out.append(Tell(incoming.peer, q.refusal[1], incoming.tag))
        # The disk may have it all the same; then the client's next try would be a second message.
        ends = tuple(RcptEnd(idx, Outcome.DISCARDED, idx == max(ta.rcpts), ta.ta) for idx in sorted(ta.rcpts))
        out.append(WriteIbdb(ends, Gone(ta.ta, ta.content)))
        return
    q.counters.transactions += 1
    q.counters.recipients += len(ta.rcpts)
    out.append(Tell(incoming.peer, TaAck(0, "", ""), incoming.tag))
    routing.admit(q, ta, now, out)


def _on_settled(q: Qmgr, message: Settled, out: list[Effect]) -> None:
    if q.settling.pop(message.ta, None) is None:
        return
    is_over = message.ta in q.overtaken
    q.overtaken.discard(message.ta)
    if message.error:
        out.append(LogLine(0, logfmt.fields(func="q_settle", ss_ta=message.ta, error=message.error)))
        return
    if is_over:
        out.append(RemoveContent(message.ta, message.content[0]))
        return
    segment = message.content[0].segment
    ta = q.aq.get(message.ta)
    if ta is not None:
        ta.content = ta.content._replace(offset=0, segment="")
    out.append(WriteDefedb(Change(settled=(message.ta,)), SettledStored(message.ta, segment)))
