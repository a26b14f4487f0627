"""A world around QMGR's tables: peers, stores and a clock that are plain data.

Everything that happens goes through `meta1g.qmgr.turn`, as in the real decider. Stores take
effect when `settle` lets them, answers of peers come when they are asked to.
"""
from collections import deque
from collections.abc import Callable
from typing import Any

from meta1g.mta.ids import ss_id
from meta1g.proto.msg_ar import Hop, Protocol, Resolve, Resolved, Target
from meta1g.proto.msg_da import CloseSession, Deliver, Delivered, Ready, Result, Stage
from meta1g.proto.msg_ss import (
    Compose,
    Composed,
    Content,
    JournalOpen,
    Left,
    Rcpt,
    Rotate,
    Segment,
    Settle,
    Settled,
    TaAck,
    TaCommit,
    Throttle,
    Welcome,
)
from meta1g.proto.rcb import PROTOCOL_VERSION, Hello, PeerDown, PeerUp
from meta1g.qmgr.effects import (
    Done,
    Loaded,
    LogLine,
    ReadDefedb,
    RemoveContent,
    RemoveSegment,
    Tell,
    WriteDefedb,
    WriteIbdb,
)
from meta1g.qmgr.state import Qmgr, Settings
from meta1g.qmgr.turn import turn
from meta1g.shim.records import DeferredRcpt, DeferredTa, IdsGiven, RcptEnd, RcptsAdded, TaNew

SETTINGS = Settings(
    hostname="host.test", aq_entries_max=500, retry_delay_min=60, retry_delay_max=600, queue_return=3600,
    double_bounce_address=b"double@host.test", dsn_merge_delay=5, dsn_errors_max=100, dsn_header_only=False,
    initial_connections=2, connections_max=5, transactions_per_session_max=10, lmtp_rcpts_max=10, smtp_rcpts_max=10,
    reuses_connections=True, occ_entries_max=100, in_rate_max=100, in_connections_max=10, delivery_timeout=300,
    scheduler_timeout=600, smar_timeout=30, disk_space_min=100, disk_space_ok=200, smtps_sessions_max=50)
SEGMENT = "J" + "0" * 16 + "00"


class Peer:
    """A peer of the hub."""

    def __init__(self, role: str, process: int = 0) -> None:
        self.role = role
        self.hello = Hello(PROTOCOL_VERSION, 1, process, role)

    def __str__(self) -> str:
        return self.role


class World:
    """QMGR with everything around it."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.now = 1_000_000.0
        self.q = Qmgr(settings, self.now - 1)
        self.smtps, self.smtpc, self.smar = Peer("smtps"), Peer("smtpc"), Peer("smar")
        self.ibdb: dict[str, set[int]] = {}
        self.defedb_ta: dict[str, DeferredTa] = {}
        self.defedb: dict[tuple[str, int], DeferredRcpt] = {}
        self.pending: deque[Any] = deque()  # store effects and messages of peers, in order
        self.contents: dict[str, Content] = {}
        self.files: set[str] = set()
        self.removed_segments: list[str] = []
        self.acks: dict[int, TaAck] = {}
        self.delivered: list[tuple[str, bytes, bytes]] = []  # ta, sender, recipient
        self.delivers: list[Deliver] = []
        self.composed: dict[str, Compose] = {}
        self.composed_again = 0  # failures in DSNs that were given up because the server died
        self.log: list[str] = []
        self.bugs: list[str] = []
        self.throttles: list[Throttle] = []
        self.left = False
        self.ibdb_error = ""
        self.counter = 0
        self.sessions: set[int] = set()
        self.up: set[Peer] = set()
        self.route: Callable[[bytes], tuple[Target, ...]] = default_route
        self.result: Callable[[Deliver, bytes], int] = lambda deliver, address: 0
        self.host_fails: Callable[[Hop], bool] = lambda hop: False
        self.hops: dict[int, Hop] = {}
        self.silent: set[Peer] = set()  # peers that do not answer

    # What drives it

    def begin(self) -> "World":
        """All peers are there."""
        for peer in (self.smar, self.smtps, self.smtpc):
            self.connect(peer)
        return self.run()

    def connect(self, peer: Peer) -> None:
        self.up.add(peer)
        self.feed((peer, PeerUp(peer.hello), 0))
        if peer is self.smtpc:
            self.feed((peer, Ready(20), 0))
        if peer is self.smtps:
            self.feed((peer, JournalOpen((Segment(SEGMENT),)), 0))

    def disconnect(self, peer: Peer) -> None:
        self.up.discard(peer)
        if peer is self.smtps:
            self.composed_again += sum(
                len(composing.rcpts) for name, composing in self.q.composing.items() if name not in self.q.iqdb)
        if peer is self.smtpc:
            self.sessions.clear()
        self.pending = deque(item for item in self.pending if not (isinstance(item, tuple) and item[0] is peer))
        self.feed((peer, PeerDown("gone"), 0))

    def feed(self, *items: Any, is_tick: bool = False) -> None:
        """One turn with these items."""
        for effect in turn(self.q, items, self.now, lambda: None, is_tick=is_tick):
            match effect:
                case Tell() if effect.peer in self.up:
                    self._told(effect.peer, effect.message, effect.tag)
                case LogLine():
                    self.log.append(effect.text)
                    if "bug=" in effect.text:
                        self.bugs.append(effect.text)
                case WriteIbdb() | WriteDefedb() | ReadDefedb() | RemoveContent() | RemoveSegment():
                    self.pending.append(effect)

    def step(self) -> bool:
        """Let the oldest pending thing happen; False if there is none."""
        if not self.pending:
            return False
        item = self.pending.popleft()
        match item:
            case WriteIbdb():
                self._write_ibdb(item)
            case WriteDefedb():
                self._write_defedb(item)
            case ReadDefedb():
                ta = self.defedb_ta.get(item.ta)
                rcpts = tuple(self.defedb[item.ta, idx] for idx in item.idxs if (item.ta, idx) in self.defedb)
                self.feed(Loaded(item.ta, ta, rcpts, "" if ta else "gone"))
            case RemoveContent():
                self.contents.pop(item.ta, None)
                self.files.discard(item.ta)
            case RemoveSegment():
                self.removed_segments.append(item.segment)
            case _:
                self.feed(item)
        return True

    def run(self) -> "World":
        """Until nothing is pending."""
        for _ in range(100_000):
            if not self.step():
                return self
        raise AssertionError("the world does not come to rest")

    def sleep(self, seconds: float, step: float = 1.0) -> "World":
        """Let time pass, with ticks."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + step, end)
            self.feed(is_tick=True)
            self.run()
        return self

    def send(self, *rcpts: bytes, mail: bytes = b"from@host.test") -> int:
        """A transaction that SMTPS has on stable storage; its tag."""
        self.counter += 1
        ta = ss_id(self.counter, 0)
        place = Content(self.counter * 100, 10, SEGMENT)
        self.contents[ta] = place
        self.feed((self.smtps, TaCommit(
            self.now, 0, 10, False, False, "S" + "0" * 18, ta, "192.0.2.1", mail, b"",
            tuple(Rcpt(idx, rcpt, b"") for idx, rcpt in enumerate(rcpts)), (place,)), self.counter))
        return self.counter

    # What must hold

    def check_empty(self) -> None:
        """Nothing is left of any message, anywhere."""
        q = self.q
        assert not self.bugs, self.bugs
        assert (q.aq, q.aq_rcpts, q.iqdb, q.composing, q.bouncing, q.tasks, q.asked) == ({}, 0, {}, {}, {}, {}, {})
        assert (self.ibdb, self.defedb, self.defedb_ta, q.edbc.count) == ({}, {}, {}, {})
        assert len(q.edbc) == 0
        assert self.contents == {}
        assert self.files == set()
        assert not any(q.holders.values()), q.holders
        assert not any(site.waiting for site in q.sites.values())

    # Peers

    def _told(self, peer: Peer, message: Any, tag: int) -> None:
        match message:
            case TaAck():
                self.acks[tag] = message
                if message.code and message.code != 0:
                    self.contents.pop(ss_id(tag, 0), None)
            case Throttle():
                self.throttles.append(message)
            case Welcome() | Rotate():
                pass
            case Left():
                self.left = True
            case CloseSession():
                self.sessions.discard(message.session)
            case _ if peer in self.silent:
                pass
            case Resolve():
                targets = self.route(message.address)
                is_list = len(targets) > 1
                if is_list and not message.expand:  # what came out of an alias is not looked up as one again
                    targets = default_route(message.address)
                self.pending.append((peer, Resolved(targets), tag))
            case Compose():
                place = Content(1, 10, SEGMENT)
                self.contents[message.ta] = place
                self.composed[message.ta] = message
                self.pending.append((peer, Composed(10, message.ta, "", (place,)), 0))
            case Settle():
                self.files.add(message.ta)
                self.pending.append((peer, Settled(message.ta, "", message.content), 0))
            case Deliver():
                self._deliver(peer, message)

    def _deliver(self, peer: Peer, message: Deliver) -> None:
        self.delivers.append(message)
        if message.is_new:
            self.sessions.add(message.session)
            self.hops[message.session] = message.hop[0]
        assert message.session in self.sessions, "a task for a session that is not open"
        hop = self.hops[message.session]
        if message.is_new and self.host_fails(hop):
            self.sessions.discard(message.session)
            results = tuple(Result(r.idx, 451, Stage.CONNECT, "4.4.1", "refused") for r in message.rcpts)
            self.pending.append((peer, Delivered(message.session, message.task, False, True, results), 0))
            return
        results = []
        for rcpt in message.rcpts:
            code = self.result(message, rcpt.address)
            if code == 0:
                self.delivered.append((message.ta, message.mail, rcpt.address))
            results.append(Result(rcpt.idx, code, Stage.DOT if code == 0 else Stage.RCPT, "", "said so"))
        self.pending.append((peer, Delivered(message.session, message.task, True, False, tuple(results)), 0))

    # Stores

    def _write_ibdb(self, write: WriteIbdb) -> None:
        if self.ibdb_error and write.may_fail:
            self.feed(Done(write.then, self.ibdb_error, self.ibdb_error == "full"))
            return
        for record in write.records:
            match record:
                case TaNew():
                    self.ibdb[record.ta] = {rcpt.idx for rcpt in record.rcpts}
                case RcptEnd():
                    self.ibdb[record.ta].discard(record.idx)
                    assert record.is_last is (not self.ibdb[record.ta]), f"is_last is wrong: {record}"
                    if record.is_last:
                        del self.ibdb[record.ta]
                case RcptsAdded():
                    self.ibdb[record.ta].discard(record.idx)
                    self.ibdb[record.ta] |= {rcpt.idx for rcpt in record.rcpts}
                case IdsGiven():
                    pass
        if write.then is not None:
            self.feed(Done(write.then))

    def _write_defedb(self, write: WriteDefedb) -> None:
        for entry in write.change.puts:
            if isinstance(entry, DeferredTa):
                self.defedb_ta[entry.ta] = entry
            else:
                assert entry.ta in self.defedb_ta, "a recipient without its transaction"
                self.defedb[entry.ta, entry.idx] = entry
        for key in write.change.deletes:
            assert self.defedb.pop(key, None) is not None, f"{key} was not there"
        for ta in write.change.ended:
            assert not any(key[0] == ta for key in self.defedb), "a transaction ended before its recipients"
            del self.defedb_ta[ta]
        for ta in write.change.settled:
            if ta in self.defedb_ta:
                entry = self.defedb_ta[ta]
                self.defedb_ta[ta] = entry._replace(content=(entry.content[0]._replace(segment=""),))
        if write.then is not None:
            self.feed(Done(write.then))


def target(address: bytes, *ips: str, sender: bytes | None = None, code: int = 0) -> Target:
    """A target with these hosts, or a failure."""
    hops = tuple(Hop(25, ip, "") for ip in ips)
    text = "no route" if code else ""
    return Target(Protocol.ESMTP, 600, code, sender is not None, address, sender or b"", "", text, hops)


def default_route(address: bytes) -> tuple[Target, ...]:
    """Each domain has its own host, named by a number in it."""
    return (target(address, "192.0.2." + str(sum(address.rpartition(b"@")[2]) % 200)),)
