"""The decider: the one thread that touches QMGR's tables (design 3).

It takes all that waits in its inbox, lets the handlers decide, and carries out the
effects: messages to peers in one write each, disk effects in one hand-over each.
"""
import queue
import threading
import time
from typing import Any, Final

from meta1g.proc.hub import Peer
from meta1g.proc.log import Log
from meta1g.qmgr import on_timer
from meta1g.qmgr.effects import DiskEffect, Effect, LogLine, Tell, WriteIbdb
from meta1g.qmgr.reconfigure import Reload
from meta1g.qmgr.state import Qmgr
from meta1g.qmgr.store import DefedbThread, IbdbThread
from meta1g.qmgr.turn import turn

_STOP: Final = "stop"


class Decider:
    """Runs the tables `q`; `reload` is called for the control command of that name."""

    def __init__(self, q: Qmgr, log: Log, ibdb: IbdbThread, defedb: DefedbThread, reload: Reload) -> None:
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
        self._log.gather(lambda flush: None)  # a turn's lines are flushed at its end
        self._thread.start()

    def stop(self) -> None:
        """Take no more decisions; returns when the running one is carried out."""
        self._inbox.put([_STOP])
        self._thread.join(30.0)

    def _run(self) -> None:
        while not self._is_stopping:
            batch = self._collect()
            now = time.time()
            is_tick = now >= self._next_tick or self._next_tick - now > 2 * on_timer.TICK
            if is_tick:
                self._next_tick = now + on_timer.TICK
            self._carry_out(turn(self._q, batch, now, self._reload, is_tick=is_tick))

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
            pass
        if _STOP in batch:
            self._is_stopping = True
            batch = [item for item in batch if item is not _STOP]
        return batch

    def _carry_out(self, out: list[Effect]) -> None:
        ibdb: list[WriteIbdb] = []
        disk: list[DiskEffect] = []
        frames: dict[Peer, list[bytes]] = {}
        log = self._log
        for effect in out:
            if isinstance(effect, Tell):
                frames.setdefault(effect.peer, []).append(effect.peer.frame(effect.message, effect.tag))
            elif isinstance(effect, WriteIbdb):
                ibdb.append(effect)
            elif isinstance(effect, LogLine):
                if effect.level:
                    log.write(effect.text, effect.level)
                else:
                    log.error(effect.text)
            else:
                disk.append(effect)
        if ibdb:
            self._ibdb.put(ibdb)
        if disk:
            self._defedb.put(disk)
        log.flush()
        for peer, parts in frames.items():
            peer.send_octets(parts[0] if len(parts) == 1 else b"".join(parts))
