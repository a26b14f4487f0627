"""Requests on the control socket: status, reload, flush; pure but for the call of `reload` (M1 4.7.3)."""
import json
from collections.abc import Callable
from dataclasses import asdict

from meta1g.proto.msg_ar import Reopen
from meta1g.proto.msg_ctl import Answer, Command
from meta1g.proto.msg_ss import Names
from meta1g.qmgr import throttle
from meta1g.qmgr.effects import Effect, Tell
from meta1g.qmgr.state import PeerKey, Qmgr, RState


def status(q: Qmgr, now: float) -> dict[str, object]:
    """Queue sizes, peers and counters, with stable names."""
    states = {state.name.lower(): 0 for state in RState}
    for ta in q.aq.values():
        for rcpt in ta.rcpts.values():
            states[rcpt.state.name.lower()] += 1
    return {
        "uptime": int(now - q.start),
        "queues": {
            "iqdb": len(q.iqdb),
            "iqdb_rcpts": q.iqdb_rcpts,
            "aq": q.aq_rcpts,
            "aq_transactions": len(q.aq),
            "aq_states": states,
            "deferred": sum(q.edbc.count.values()),
            "deferred_transactions": len(q.edbc.count),
        },
        "connections": {
            "smtps": sum(server.sessions for server in q.smtps.values()),
            "smtpc": sum(client.sessions for client in q.smtpc.values()),
        },
        "peers": {"smtps": len(q.smtps), "smtpc": len(q.smtpc), "smar": int(q.smar is not None)},
        "throttle": {"sessions": q.throttled_to, "used": round(throttle.used(q), 3), "reason": q.throttle_text},
        "smtps": [{"process": server.process, "pid": server.pid, "connections": server.sessions,
                   **json.loads(server.statistics)} for server in q.smtps.values()],
        "disk_free": q.disk_free,
        "segments": len(q.holders),
        "occ": len(q.occ),
        "counters": asdict(q.counters),
    }


def on_command(
    q: Qmgr, peer: PeerKey, command: Command, tag: int, now: float, reload: Callable[[], None], out: list[Effect]
) -> None:
    """Answer one command; an unknown one is told so."""
    match command.name:
        case "status":
            answer = Answer(False, json.dumps(status(q, now)))
        case "reload":
            reload()
            out += [Tell(server, Names(q.hosts.wants_names)) for server in q.smtps]
            if q.smar is not None:
                out.append(Tell(q.smar, Reopen(now), 0))
            answer = Answer(False, json.dumps({"reloaded": True}))
        case "flush":
            answer = Answer(False, json.dumps({"due": q.edbc.hurry(now)}))
        case _:
            answer = Answer(True, json.dumps({"error": f"unknown command {command.name!r}"}))
    out.append(Tell(peer, answer, tag))
