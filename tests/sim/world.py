"""QMGR's decider on a virtual clock among modelled servers: the code of the process, without disk or sockets.

What is asserted at every step: no server gets more connections than its limits allow, at once or a minute; SMTPC never
has more sessions than it has places; a transaction has no more recipients than the limit; every recipient has one end.
"""
import heapq
import itertools
import random
from collections import Counter, defaultdict
from typing import Any, Final

from meta1g.proto.msg_ar import Hop, Protocol, Resolve, Resolved, Target
from meta1g.proto.msg_da import CloseSession, Deliver, Delivered, Ready, Result
from meta1g.proto.msg_ss import Compose, Composed, Content, JournalOpen, Rcpt, TaAck, TaCommit
from meta1g.proto.rcb import PeerUp
from meta1g.qmgr import aq
from meta1g.qmgr.edbc import Edbc
from meta1g.qmgr.effects import Done, Effect, Loaded, LogLine, ReadDefedb, Tell, WriteDefedb, WriteIbdb
from meta1g.qmgr.host_conf import HostConf
from meta1g.qmgr.reconfigure import Configured
from meta1g.qmgr.state import Qmgr, Settings
from meta1g.qmgr.turn import turn
from tests.flow.defedb import FakeDefedb
from tests.flow.world import SETTINGS, Peer
from tests.sim.sites import ModelSite

_DISK: Final = 0.005  # seconds for a store's answer
_AGAIN: Final = 10.0  # seconds until a client that was refused comes back
CONTENT: Final = Content(0, 1000, "")
SIM_SETTINGS: Final = SETTINGS._replace(
    aq_entries_max=20000, iqdb_entries_max=65536, retry_delay_min=60, retry_delay_max=4000, queue_return=5 * 86400,
    dsn_errors_max=100, occ_entries_max=16384, smtp_rcpts_max=100, lmtp_rcpts_max=100, delivery_timeout=7200,
    scheduler_timeout=3600)


class Simulation:
    """One run; `places` are the sessions that SMTPC can hold."""

    def __init__(self, sites: dict[str, ModelSite], seed: int, places: int = 500,
                 settings: Settings = SIM_SETTINGS) -> None:
        self.luck = random.Random(seed)
        self.now = 1e6
        self.began = self.now
        self.q = Qmgr(settings, self.now, self.luck.random, edbc=Edbc(1 << 26))
        self.q.dsn_next = 1 << 40
        self.q.take_hosts(HostConf(_entries(sites)))
        self.sites = sites
        self.store = FakeDefedb()
        self.places = places
        self.peers = {name: Peer(name) for name in ("smar", "smtps", "smtpc")}
        self.sessions: dict[int, ModelSite] = {}
        self.arrived: dict[bytes, tuple[float, str]] = {}
        self.delays: defaultdict[str, list[float]] = defaultdict(list)
        self.ends: Counter[bytes] = Counter()
        self.deferrals = self.refused = 0
        self._events: list[tuple[float, int, Any]] = []
        self._order = itertools.count()
        self._tick = self.now
        self._commits: dict[int, TaCommit] = {}
        for name, peer in self.peers.items():
            self._later(0.0, (peer, PeerUp(peer.hello), 0))
            if name == "smtpc":
                self._later(0.0, (peer, Ready(places), 0))
            if name == "smtps":
                self._later(0.0, (peer, JournalOpen(()), 0))

    def send(self, when: float, mail: bytes, rcpts: list[bytes]) -> None:
        """A transaction arrives `when` seconds after the beginning; an address is that of a site: user@ip."""
        number = next(self._order) + 1
        commit = TaCommit(self.began + when, 0, 1000, False, False, "S" + "0" * 18, f"S{number:018X}", "192.0.2.1",
                          mail, b"", tuple(Rcpt(idx, rcpt, b"") for idx, rcpt in enumerate(rcpts)), (CONTENT,))
        self._commits[number] = commit
        heapq.heappush(self._events, (self.began + when, number, (self.peers["smtps"], commit, number)))
        for rcpt in rcpts:
            self.arrived[rcpt] = (self.began + when, self.sites[rcpt.rpartition(b"@")[2].decode()].kind)

    def run(self, seconds: float) -> "Simulation":
        """Let so much time pass, or less if nothing is left to do."""
        end = self.now + seconds
        while self.now < end and (self._events or self.q.aq or self.store.rcpts):
            self.now = min(self._next_time(), end)
            self._turn()
        return self

    def _next_time(self) -> float:
        times = [self._events[0][0]] if self._events else []
        due = self.q.edbc.next_time()
        if due is not None and aq.room(self.q) > 0:
            times.append(due)
        if self.q.aq or self.q.sessions:
            times.append(self._tick)
        return max(min(times, default=self.now + 1.0), self.now)

    def _turn(self) -> None:
        items = []
        while self._events and self._events[0][0] <= self.now + 0.001:
            _, _, item = heapq.heappop(self._events)
            if isinstance(item, tuple) and isinstance(item[1], Delivered):
                self._delivered(item[1])
            items.append(item)
        is_tick = self.now >= self._tick
        if is_tick:
            self._tick = self.now + 1.0
        same = Configured(self.q.settings, self.q.hosts, ())
        for effect in turn(self.q, items, self.now, lambda: same, is_tick=is_tick):
            self._carry_out(effect)

    def _later(self, delay: float, item: Any) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self._order), item))

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Tell():
                self._hear(effect.message, effect.tag)
            case WriteIbdb() | WriteDefedb():
                if isinstance(effect, WriteDefedb):
                    self.store.write([effect.change])
                if effect.then is not None:
                    self._later(_DISK, Done(effect.then))
            case ReadDefedb():
                found = self.store.load(effect.ta, effect.idxs)
                self._later(_DISK, Loaded(effect.ta, effect.idxs, found.ta, tuple(found.rcpts), found.total))
            case LogLine():
                assert "bug=" not in effect.text, effect.text

    def _hear(self, message: Any, tag: int) -> None:
        match message:
            case Resolve():
                hop = Hop(25, message.address.rpartition(b"@")[2].decode(), "")
                self._later(0.01, (self.peers["smar"], Resolved((Target(
                    Protocol.ESMTP, 3600, 0, False, False, message.address, b"", "", "", "", (hop,)),)), tag))
            case TaAck() if message.code:
                self.refused += 1
                self._later(_AGAIN, (self.peers["smtps"], self._commits[tag], tag))
            case TaAck():
                self._commits.pop(tag, None)
            case Compose():
                self._later(_DISK, (self.peers["smtps"], Composed(1000, message.ta, "", (CONTENT,)), 0))
            case Deliver():
                self._deliver(message)
            case CloseSession():
                self.sessions.pop(message.session).open -= 1

    def _deliver(self, message: Deliver) -> None:
        if message.is_new:
            site = self.sessions[message.session] = self.sites[message.hop[0].ip]
            site.connects(self.now)
            assert len(self.sessions) <= self.places
        site = self.sessions[message.session]
        assert len(message.rcpts) <= self.q.settings.smtp_rcpts_max
        answer = site.answer([rcpt.address for rcpt in message.rcpts], self.now - self.began, self.luck)
        self._later(answer.delay, (self.peers["smtpc"], Delivered(
            message.session, message.task, not answer.is_host, answer.is_host, False, tuple(
                Result(rcpt.idx, code, answer.stage, True, "", "said so")
                for rcpt, code in zip(message.rcpts, answer.codes, strict=True))), 0))

    def _delivered(self, message: Delivered) -> None:
        if message.session not in self.sessions:
            return
        task = self.q.tasks[message.task]
        if not message.is_open:
            self.sessions.pop(message.session).open -= 1
        for rcpt, result in zip(task.rcpts, message.results, strict=True):
            if result.code == 0:
                self.ends[rcpt.address] += 1
                arrived, kind = self.arrived[rcpt.address]
                self.delays[kind].append(self.now - arrived)
            else:
                self.deferrals += 1


def _entries(sites: dict[str, ModelSite]) -> dict[bytes, bytes]:
    entries = {}
    for site in sites.values():
        entries[b"ocm:" + site.ip.encode()] = b"%d" % site.most
        if site.rate:
            entries[b"ocr:" + site.ip.encode()] = b"%d" % site.rate
    return entries
