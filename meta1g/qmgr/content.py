"""Who still needs which journal segment, and when content may go; pure (design 5)."""
from meta1g.proto.msg_ss import Content, Left, Rotate, Settle
from meta1g.qmgr.effects import Effect, Gone, RemoveContent, RemoveSegment, Tell, WriteIbdb
from meta1g.qmgr.state import PeerKey, Qmgr, Ta
from meta1g.shim.records import RcptEnd


def hold(q: Qmgr, ta: str, content: Content) -> None:
    """A transaction needs its segment."""
    if content.segment:
        q.holders.setdefault(content.segment, set()).add(ta)


def release(q: Qmgr, ta: str, segment: str, out: list[Effect]) -> None:
    """A transaction does not need this segment any more (said once or twice); with the last one it may go."""
    holders = q.holders.get(segment)
    if holders is None:
        return
    holders.discard(ta)
    if not holders:
        _remove_if_closed(q, segment, out)


def ended_in_defedb(ta: str, content: Content, records: tuple[RcptEnd, ...], out: list[Effect]) -> None:
    """DEFEDB has the end of the last recipient; IBDB may still hold back ends of others, so it is waited for."""
    out.append(WriteIbdb(records, Gone(ta, content)))


def on_gone(q: Qmgr, then: Gone, out: list[Effect]) -> None:
    """The last recipient's end is on stable storage: remove the content."""
    if then.content.segment:
        release(q, then.ta, then.content.segment, out)
    if then.ta in q.settling:
        q.overtaken.add(then.ta)
    if then.may_have_file:
        out.append(RemoveContent(then.ta, then.content))


def on_open_segments(q: Qmgr, peer: object, names: frozenset[str], out: list[Effect]) -> None:
    """An SMTP server says which segments it may still use; its others are closed."""
    server = q.smtps[peer]
    closed = server.segments - names
    server.segments, server.has_announced = names, True
    suffix = f"{server.process:02X}"
    for name in names:
        q.holders.setdefault(name, set())
    closed |= {name for name in q.holders if name.endswith(suffix)}
    for name in closed:
        _remove_if_closed(q, name, out)


def rotate_idle(q: Qmgr, out: list[Effect]) -> None:
    """Delivered mail shall not lie in a segment that gets no more: ask for a new one when nobody needs it."""
    if q.iqdb or q.aq:
        return
    for peer, server in q.smtps.items():
        for name in server.segments:
            if not q.holders.get(name, True):
                out.append(Tell(peer, Rotate(name)))


def settle(q: Qmgr, ta: Ta, peer: PeerKey, out: list[Effect]) -> None:
    """Content of what has to stay goes from the journal into its own file (design 5)."""
    if ta.content.segment and ta.ta not in q.settling:
        q.settling[ta.ta] = peer
        ta.may_have_file = True
        out.append(Tell(peer, Settle(ta.ta, (ta.content,))))


def on_leaving(q: Qmgr, peer: PeerKey, pid: int, out: list[Effect]) -> None:
    """A server stops: an administrator who looks into CDB afterwards shall find what waits."""
    q.smtps[peer].leaving_pid = pid
    for ta in q.aq.values():
        settle(q, ta, peer, out)
    let_go(q, out)


def let_go(q: Qmgr, out: list[Effect]) -> None:
    """Servers that are leaving may go when everything has settled."""
    if q.settling:
        return
    for peer, server in q.smtps.items():
        if server.leaving_pid:
            out.append(Tell(peer, Left(server.leaving_pid)))
            server.leaving_pid = 0


def _remove_if_closed(q: Qmgr, segment: str, out: list[Effect]) -> None:
    """A server that is away may still write into its segment: it says so when it is back."""
    is_ours = False
    for server in q.smtps.values():
        if segment in server.segments:
            return
        is_ours |= server.has_announced and segment.endswith(f"{server.process:02X}")
    if q.holders.get(segment, True) or not is_ours:
        return
    del q.holders[segment]
    out.append(RemoveSegment(segment))
