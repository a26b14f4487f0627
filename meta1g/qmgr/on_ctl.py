"""Requests on the control socket; pure but for the call of `reload` (M1 4.7.3).

Rules
    A command's arguments are a JSON object: `to`, `site` and `id` hold lists of patterns (`mta.selection`).
    What is picked by them is looked for in DEFEDB piece by piece, so that other work goes on meanwhile.
"""
import json
from dataclasses import asdict, dataclass, field
from typing import Final

from meta1g.mta.logfmt import fields
from meta1g.mta.selection import Picker, Selection
from meta1g.proto.msg_ar import Reopen
from meta1g.proto.msg_ctl import Answer, Command
from meta1g.qmgr import aq, holds, parking, routing, throttle, verdicts
from meta1g.qmgr.effects import (
    Checkpoint,
    Done,
    Effect,
    HoldsStored,
    LogLine,
    ScanDefedb,
    Scanned,
    Shown,
    Tell,
    WriteHolds,
    WriteIbdb,
)
from meta1g.qmgr.reconfigure import Reload, on_configured
from meta1g.qmgr.state import PeerKey, Qmgr, RState, Verdict

_FLUSHES_MAX: Final = 16  # that wait until others are on their way


@dataclass(slots=True, eq=False)
class Flushing:
    """A command that goes through DEFEDB: who waits for its end, what it has found, and what else to answer.

    It `is_all` if nothing was said of whom it is about. With a `verdict` what it finds ends, else it is brought
    forward; `due` counts both.
    """

    peer: PeerKey
    tag: int
    answer: dict[str, object]
    picker: Picker
    is_all: bool = False
    chosen: set[tuple[str, int]] = field(default_factory=set)
    due: int = 0
    is_answered: bool = False
    verdict: Verdict | None = None


def statistics(q: Qmgr, now: float) -> dict[str, object]:
    """What was done since the start (M1 4.7.3, 9.4), with stable names."""
    return {"uptime": int(now - q.start), "counters": asdict(q.counters), "smtps": _servers(q)}


def _servers(q: Qmgr) -> list[dict[str, object]]:
    return [{"process": server.process, "pid": server.pid, "connections": server.sessions,
             **json.loads(server.statistics)} for server in q.smtps.values()]


def status(q: Qmgr, now: float) -> dict[str, object]:
    """Queue sizes, peers and counters, with stable names."""
    states = {state.name.lower(): 0 for state in RState}
    for ta in q.aq.values():
        for rcpt in ta.rcpts.values():
            states[rcpt.state.name.lower()] += 1
    return {
        "uptime": int(now - q.start),
        "configuration": {"reloads": q.reloads, "after_restart": list(q.late)},
        "queues": {
            "iqdb": len(q.iqdb),
            "iqdb_rcpts": q.iqdb_rcpts,
            "aq": q.aq_rcpts,
            "aq_transactions": len(q.aq),
            "aq_states": states,
            "deferred": q.deferred_rcpts,
            "deferred_transactions": q.deferred_tas,
        },
        "connections": {
            "smtps": sum(server.sessions for server in q.smtps.values()),
            "smtpc": sum(client.sessions for client in q.smtpc.values()),
        },
        "peers": {"smtps": len(q.smtps), "smtpc": len(q.smtpc), "smar": int(q.smar is not None)},
        "throttle": {"sessions": q.throttled_to, "used": round(throttle.used(q), 3), "reason": q.throttle_text},
        "smtps": _servers(q),
        "holds": q.holds.plain(),
        "disk_free": q.disk_free,
        "segments": len(q.holders),
        "occ": len(q.occ),
        "counters": asdict(q.counters),
    }


def on_command(
    q: Qmgr, peer: PeerKey, command: Command, tag: int, now: float, reload: Reload, out: list[Effect]
) -> None:
    """Answer one command, at once or when it is done; an unknown or wrong one is told so."""
    try:
        wanted = _selection(command.arguments)
        match command.name:
            case "status":
                _answer(peer, tag, status(q, now), out)
            case "statistics":
                _answer(peer, tag, statistics(q, now), out)
            case "reload":
                found = reload()
                if found is None:
                    raise ValueError("the configuration map can't be read; see the log")
                on_configured(q, found, now, out)
                if q.smar is not None:
                    out.append(Tell(q.smar, Reopen(now), 0))
                _answer(peer, tag, {"reloaded": True}, out)
            case "checkpoint":
                out.append(Checkpoint(Shown(peer, tag)))
            case "flush":
                _flush(q, Flushing(peer, tag, {}, Picker(wanted), is_all=not any(wanted)), out)
            case "release" if wanted.to or wanted.ids:
                _give_up(q, Flushing(peer, tag, {}, Picker(wanted), is_all=False, verdict=Verdict.RELEASE), out)
            case "delete" | "expire":
                _give_up(q, Flushing(peer, tag, {}, Picker(wanted), is_all=not any(wanted),
                                     verdict=Verdict(command.name)), out)
            case "hold" | "release":
                _hold(q, HoldsStored(peer, tag, ()), wanted, now, out, is_hold=command.name == "hold")
            case _:
                raise ValueError(f"unknown command {command.name!r}")
    except ValueError as error:
        _refuse(peer, tag, str(error), out)


def on_shown(done: Done, out: list[Effect]) -> None:
    """DEFEDB's readers see all, or the disk refuses."""
    then: Shown = done.then
    if done.error:
        _refuse(then.peer, then.tag, done.error, out)
    else:
        _answer(then.peer, then.tag, {"checkpoint": True}, out)


def _answer(peer: PeerKey, tag: int, found: dict[str, object], out: list[Effect]) -> None:
    out.append(Tell(peer, Answer(False, json.dumps(found)), tag))


def _refuse(peer: PeerKey, tag: int, reason: str, out: list[Effect]) -> None:
    out.append(Tell(peer, Answer(True, json.dumps({"error": reason})), tag))


def _selection(arguments: str) -> Selection:
    """What a command is about; ValueError."""
    given = json.loads(arguments)
    kinds = [given.pop(kind, []) for kind in ("to", "site", "id")] if isinstance(given, dict) else []
    if not kinds or given or not all(
            isinstance(kind, list) and all(isinstance(word, str) for word in kind) for kind in kinds):
        raise ValueError("the arguments are no object with lists of to, site and id")
    to, sites, ids = map(tuple, kinds)
    return Selection(to, sites, ids)


def _flush(q: Qmgr, flushing: Flushing, out: list[Effect]) -> None:
    """Make what is picked due, and end the rests of its hosts; ValueError."""
    _admit(q)
    if flushing.is_all:
        q.occ.wake()
    _look(flushing, out)


def _give_up(q: Qmgr, flushing: Flushing, out: list[Effect]) -> None:
    """End what is picked; ValueError."""
    if flushing.is_all:
        raise ValueError("say whom: by to, site or id")
    _admit(q)
    _look(flushing, out)


def _admit(q: Qmgr) -> None:
    if len(q.flushing) >= _FLUSHES_MAX:
        raise ValueError("too many earlier commands are not through yet, try again later")


def _look(flushing: Flushing, out: list[Effect]) -> None:
    """Go through DEFEDB when EDBC knows all that DEFEDB has got until now: IBDB's word on it may be under way."""
    out.append(WriteIbdb((), flushing, is_urgent=True))


def on_written(q: Qmgr, flushing: Flushing, now: float, out: list[Effect]) -> None:
    """IBDB has written what came before this command."""
    if flushing.verdict is not None:
        flushing.due += verdicts.pass_on_active(q, flushing.picker, flushing.verdict, now, out)
    else:
        flushing.due += routing.hurry_active(q, flushing.picker, now)
    if flushing.is_all and q.edbc.is_whole:
        flushing.due += len(q.edbc)
        q.edbc.hurry(now)
        _flushed(q, flushing, out)
        return
    out.append(ScanDefedb(flushing.picker, b"", flushing))


def on_scanned(q: Qmgr, message: Scanned, now: float, out: list[Effect]) -> None:
    """A piece of DEFEDB was looked at: do what is wanted with what was found, and go on."""
    flushing: Flushing = message.then
    if flushing.verdict is None:
        q.occ.wake(message.addresses)
    flushing.chosen.update(key for key in message.found if not aq.has(q, *key))
    if flushing.chosen and (not message.next or len(flushing.chosen) >= q.edbc.batch):
        _do(q, flushing, now)
    if message.error:
        _fail(flushing, message.error, out)
    elif not message.next:
        _flushed(q, flushing, out)
    elif _has_enough(q):
        q.flushing.append((flushing, message.next))
        _flushed(q, flushing, out, more=True)
    else:
        out.append(ScanDefedb(flushing.picker, message.next, flushing))


def _do(q: Qmgr, flushing: Flushing, now: float) -> None:
    chosen, flushing.chosen = flushing.chosen, set()
    flushing.due += len(chosen)
    if flushing.verdict is not None:
        verdicts.pass_on_deferred(q, chosen, flushing.verdict)
    else:
        q.edbc.bring_forward(chosen, now)


def _has_enough(q: Qmgr) -> bool:
    """Whether what commands have found has to be worked on before they find more."""
    return q.edbc.is_hurried or len(q.doomed) + q.loading >= q.edbc.batch


def go_on(q: Qmgr, out: list[Effect]) -> None:
    """Commands that found enough for the time being go on when that is on its way."""
    if q.flushing and not _has_enough(q):
        flushing, start = q.flushing.popleft()
        out.append(ScanDefedb(flushing.picker, start, flushing))


def _flushed(q: Qmgr, flushing: Flushing, out: list[Effect], *, more: bool = False) -> None:
    """So many were found; with `more` some are yet to be, when these are on their way."""
    command = flushing.verdict.value if flushing.verdict is not None else "flush"
    out.append(LogLine(9, fields(func=f"q_{command}", rcpts=flushing.due, more=int(more))))
    if flushing.is_answered:
        return
    flushing.is_answered = True
    still: dict[str, object] = {"more": True} if more else {}
    if q.holds:
        still["holds"] = q.holds.plain()
    _answer(flushing.peer, flushing.tag, flushing.answer | {"due": flushing.due} | still, out)


def _fail(flushing: Flushing, reason: str, out: list[Effect]) -> None:
    if flushing.is_answered:
        out.append(LogLine(0, fields(func="q_flush", due=flushing.due, status=reason)))
    else:
        _refuse(flushing.peer, flushing.tag, reason, out)


def _hold(q: Qmgr, then: HoldsStored, wanted: Selection, now: float, out: list[Effect], *, is_hold: bool) -> None:
    """Stop or allow deliveries, from this moment; ValueError. The answer waits for the file."""
    if wanted.to or wanted.ids:
        raise ValueError("sites can be held, or everything")
    before = q.holds
    parking.apply(q, holds.changed(before, wanted.sites, is_hold=is_hold), now, out)
    freed = tuple(sorted(before.sites - q.holds.sites))
    out.append(LogLine(1, fields(func="q_hold", status="held" if is_hold else "released",
                                 sites=" ".join(wanted.sites) or "all")))
    out.append(WriteHolds(q.holds, then._replace(freed=freed)))


def on_holds_stored(q: Qmgr, done: Done, out: list[Effect]) -> None:
    """The file says what is held, or can't be written; what was freed is due, and that is told with the answer."""
    then: HoldsStored = done.then
    if done.error:
        out.append(LogLine(0, fields(func="q_hold", status=done.error)))
        _refuse(then.peer, then.tag, f"done, but not for longer than this QMGR runs: {done.error}", out)
    answer: dict[str, object] = {"holds": q.holds.plain()}
    if then.freed:
        picker = Picker(Selection(sites=then.freed))
        _look(Flushing(then.peer, then.tag, answer, picker, is_answered=bool(done.error)), out)
    elif not done.error:
        _answer(then.peer, then.tag, answer, out)
