"""One turn of the decider: what came in, which handler takes it, what follows; pure (design 3)."""
from collections.abc import Iterable
from typing import Any, Final

from meta1g.mta.logfmt import fields
from meta1g.proto.msg_ar import Resolved
from meta1g.proto.msg_ctl import Command
from meta1g.proto.rcb import PeerDown, PeerUp
from meta1g.qmgr import bounce, on_ctl, on_smar, on_smtpc, on_smtps, on_timer, routing, sched
from meta1g.qmgr.effects import DiskFree, Done, Effect, HoldsStored, Loaded, LogLine, Scanned, Shown, Surveyed
from meta1g.qmgr.reconfigure import Configured, Reload, on_configured
from meta1g.qmgr.state import PeerKey, Qmgr

_STEPS: Final = (  # of each turn; none keeps the others from theirs
    routing.fetch_due, routing.refill, bounce.send_due, sched.schedule)


def turn(q: Qmgr, items: Iterable[Any], now: float, reload: Reload, *, is_tick: bool) -> list[Effect]:
    """Decide about everything that came in since the last turn; `is_tick` once a second.

    An item is (peer, message, tag) from the hub, whose peers have a `role`, or a report of the stores.
    """
    out: list[Effect] = []
    for item in items:
        try:
            _on_item(q, item, now, reload, out)
        except Exception as error:
            # A bug must cost one item, not the queue: the rest of the mail goes on.
            out.append(LogLine(0, fields(func="q_turn", item=type(item).__name__, bug=repr(error), at=_place(error))))
    for step in (on_timer.on_tick, *_STEPS) if is_tick else _STEPS:
        try:
            step(q, now, out)
        except Exception as error:
            out.append(LogLine(0, fields(func="q_turn", item="time", bug=repr(error), at=_place(error))))
    return out


def _place(error: Exception) -> str:
    """Where an exception arose: the innermost frame."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace is not None else ""


def _on_item(q: Qmgr, item: Any, now: float, reload: Reload, out: list[Effect]) -> None:
    match item:
        case Done(then=HoldsStored()):
            on_ctl.on_holds_stored(q, item, out)
        case Done(then=Shown()):
            on_ctl.on_shown(item, out)
        case Done(then=on_ctl.Flushing()):
            on_ctl.on_written(q, item.then, now, out)
        case Scanned():
            on_ctl.on_scanned(q, item, now, out)
        case Surveyed():
            routing.on_surveyed(q, item, now, out)
        case Done():
            on_timer.on_done(q, item, now, out)
        case Loaded():
            on_timer.on_loaded(q, item, now, out)
        case DiskFree():
            on_timer.on_disk(q, item, out)
        case Configured():
            on_configured(q, item, now, out)
        case (peer, message, tag):
            _on_peer(q, peer, message, tag, now, reload, out)


def _on_peer(
    q: Qmgr, peer: PeerKey, message: Any, tag: int, now: float, reload: Reload, out: list[Effect]
) -> None:
    if isinstance(message, PeerUp | PeerDown) and peer.role != "control":
        out.append(LogLine(1, f"func=q_peer, peer={peer}, status={'up' if isinstance(message, PeerUp) else 'down'}"))
    match peer.role, message:
        case "smtps", PeerUp():
            on_smtps.on_up(q, peer, message.hello, now, out)
        case "smtps", PeerDown():
            on_smtps.on_down(q, peer, out)
        case "smtps", _:
            on_smtps.on_message(q, peer, message, tag, now, out)
        case "smtpc", PeerUp():
            on_smtpc.on_up(q, peer)
        case "smtpc", PeerDown():
            on_smtpc.on_down(q, peer, now, out)
        case "smtpc", _:
            on_smtpc.on_message(q, peer, message, now, out)
        case "smar", PeerUp():
            on_smar.on_up(q, peer, now, out)
        case "smar", PeerDown():
            on_smar.on_down(q)
        case "smar", Resolved():
            on_smar.on_resolved(q, message, tag, now, out)
        case "control", Command():
            on_ctl.on_command(q, peer, message, tag, now, reload, out)
