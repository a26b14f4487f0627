"""Who still needs which journal segment, and when content may go; pure (design 5)."""
from meta1g.proto.msg_ss import Content, Rotate
from meta1g.qmgr.effects import Effect, Gone, RemoveContent, RemoveSegment, Tell
from meta1g.qmgr.state import Qmgr, Ta


def hold(q: Qmgr, content: Content) -> None:
    """A transaction needs its segment."""
    if content.segment:
        q.segment_refs[content.segment] = q.segment_refs.get(content.segment, 0) + 1


def release(q: Qmgr, segment: str, out: list[Effect]) -> None:
    """A transaction does not need this segment any more; with the last one it may go."""
    if not segment or segment not in q.segment_refs:
        return
    q.segment_refs[segment] -= 1
    if q.segment_refs[segment] == 0:
        _remove_if_closed(q, segment, out)


def gone(q: Qmgr, ta: Ta) -> Gone:
    """What to do with the content when the record of the last recipient is stored."""
    return Gone(ta.ta, ta.content)


def on_gone(q: Qmgr, then: Gone, out: list[Effect]) -> None:
    """The last recipient's end is on stable storage: remove the content."""
    q.settling.discard(then.ta)
    if then.content.segment:
        release(q, then.content.segment, out)
    out.append(RemoveContent(then.ta, then.content))


def on_open_segments(q: Qmgr, peer: object, names: frozenset[str], out: list[Effect]) -> None:
    """An SMTP server says which segments it may still use; its others are closed."""
    server = q.smtps[peer]
    closed = server.segments - names
    server.segments = names
    suffix = f"{server.process:02X}"
    for name in names:
        q.segment_refs.setdefault(name, 0)
    for name in [name for name in q.segment_refs if name.endswith(suffix)]:
        closed |= {name}
    for name in closed:
        _remove_if_closed(q, name, out)


def rotate_idle(q: Qmgr, out: list[Effect]) -> None:
    """Delivered mail shall not lie in a segment that gets no more: ask for a new one when nobody needs it."""
    if q.iqdb or q.aq:
        return
    for peer, server in q.smtps.items():
        for name in server.segments:
            if q.segment_refs.get(name) == 0:
                out.append(Tell(peer, Rotate(name)))


def _remove_if_closed(q: Qmgr, segment: str, out: list[Effect]) -> None:
    if q.segment_refs.get(segment, 1) or any(segment in server.segments for server in q.smtps.values()):
        return
    del q.segment_refs[segment]
    out.append(RemoveSegment(segment))
