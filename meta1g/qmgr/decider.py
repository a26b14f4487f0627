"""The decider: the one thread that touches QMGR's tables (design 3).

It takes all that waits in its inbox, lets the handlers decide, and carries out the
effects: messages to peers in one write each, disk effects in one hand-over each.
"""
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from meta1g.proc.hub import Peer, PeerDown, PeerUp
from meta1g.proc.log import Log
from meta1g.proto.msg_ar import Resolved
from meta1g.proto.msg_ctl import Command
from meta1g.qmgr import bounce, on_ctl, on_smar, on_smtpc, on_smtps, on_timer, routing, sched
from meta1g.qmgr.effects import (
    DiskFree,
    Done,
    Effect,
    Loaded,
    LogLine,
    ReadDefedb,
    RemoveContent,
    RemoveSegment,
    Tell,
    WriteDefedb,
    WriteIbdb,
)
from meta1g.qmgr.state import Qmgr
from meta1g.qmgr.store import DefedbThread, DiskEffect, IbdbThread

_STOP: Final = "stop"


class Decider:
    """Runs the tables `q`; `reload` is called for the control command of that name."""

    def __init__(self, q: Qmgr, log: Log, ibdb: IbdbThread, defedb: DefedbThread, reload: Callable[[], None]) -> None:
        self._q = q
        self._log = log
        self._ibdb = ibdb
        self._defedb = defedb
        self._reload = reload
        self._inbox: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
        self._next_tick = 0.0
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="decider", daemon=True)

    def put(self, batch: list[Any]) -> None:
        """Decide about these: hub batches and reports of the stores."""
        self._inbox.put(batch)

    def start(self) -> None:
        """Begin to decide."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more decisions; returns when the running one is carried out."""
        self._inbox.put([_STOP])
        self._thread.join(30.0)

    def _run(self) -> None:
        while not self._is_stopping:
            batch = self._collect()
            now = time.time()
            out: list[Effect] = []
            for item in batch:
                self._decide(item, now, out)
            if now >= self._next_tick or self._next_tick - now > 2 * on_timer.TICK:
                self._next_tick = now + on_timer.TICK
                on_timer.on_tick(self._q, now, out)
            routing.fetch_due(self._q, now, out)
            if self._q.bouncing:
                bounce.send_due(self._q, now, out)
            sched.schedule(self._q, now, out)
            self._carry_out(out)

    def _collect(self) -> list[Any]:
        timeout = min(max(self._next_tick - time.time(), 0.001), on_timer.TICK)
        try:
            batch = self._inbox.get(timeout=timeout)
        except queue.Empty:
            return []
        try:
            while True:
                batch = batch + self._inbox.get_nowait()
        except queue.Empty:
            return batch

    def _decide(self, item: Any, now: float, out: list[Effect]) -> None:
        q = self._q
        match item:
            case (Peer() as peer, message, tag):
                self._on_peer(peer, message, tag, now, out)
            case Done():
                on_timer.on_done(q, item, now, out)
            case Loaded():
                on_timer.on_loaded(q, item, now, out)
            case DiskFree():
                on_timer.on_disk(q, item, out)
            case _:
                self._is_stopping = True

    def _on_peer(self, peer: Peer, message: Any, tag: int, now: float, out: list[Effect]) -> None:
        q = self._q
        if isinstance(message, PeerUp | PeerDown) and peer.role != "control":
            self._log.info(f"func=q_peer, peer={peer}, status={'up' if isinstance(message, PeerUp) else 'down'}")
        match peer.role, message:
            case "smtps", PeerUp():
                on_smtps.on_up(q, peer, message.hello, now, out)
            case "smtps", PeerDown():
                on_smtps.on_down(q, peer)
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
                on_ctl.on_command(q, peer, message, tag, now, self._reload, out)

    def _carry_out(self, out: list[Effect]) -> None:
        ibdb: list[WriteIbdb] = []
        disk: list[DiskEffect] = []
        frames: dict[Peer, list[bytes]] = {}
        log = self._log
        for effect in out:
            kind = type(effect)
            if kind is Tell:
                peer = effect.peer  # type: ignore[union-attr]
                frames.setdefault(peer, []).append(peer.frame(effect.message, effect.tag))  # type: ignore[union-attr]
            elif isinstance(effect, WriteIbdb):
                ibdb.append(effect)
            elif isinstance(effect, LogLine):
                if effect.level:
                    log.write(effect.text, effect.level)
                else:
                    log.error(effect.text)
            elif isinstance(effect, WriteDefedb | ReadDefedb | RemoveContent | RemoveSegment):
                disk.append(effect)
        if ibdb:
            self._ibdb.put(ibdb)
        if disk:
            self._defedb.put(disk)
        for peer, parts in frames.items():
            peer.send_octets(parts[0] if len(parts) == 1 else b"".join(parts))
