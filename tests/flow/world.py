"""A world around QMGR's tables: peers, stores and a clock that are plain data.

Everything that happens goes through `meta1g.qmgr.turn`, as in the real decider. What is under way
waits in lanes, one for each thread and peer that the real program has: IBDB, DEFEDB with the removal
of content, and each peer. Within a lane the order is kept; which lane moves next is the story's choice.
Content and IBDB are written by the real stores to a disk in memory, DEFEDB is a dictionary.
"""
import json
from collections import deque
from collections.abc import Callable
from typing import Any

from meta1g.mta.errors import CorruptRecord, StoreError, TornTail
from meta1g.mta.ids import ss_id
from meta1g.proto.dsn import Form
from meta1g.proto.msg_ar import Hop, Protocol, Resolve, Resolved, Target
from meta1g.proto.msg_ctl import Answer, Command
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
from meta1g.qmgr.edbc import ENTRIES_MAX, Edbc
from meta1g.qmgr.effects import (
    Checkpoint,
    Done,
    Loaded,
    LogLine,
    ReadDefedb,
    RemoveContent,
    RemoveSegment,
    ScanDefedb,
    SurveyDefedb,
    Tell,
    WriteDefedb,
    WriteHolds,
    WriteIbdb,
)
from meta1g.qmgr.holds import Holds
from meta1g.qmgr.holds import parse as parse_holds
from meta1g.qmgr.occ import OutLimits
from meta1g.qmgr.reconfigure import Configured
from meta1g.qmgr.recover import fill, recover
from meta1g.qmgr.state import Qmgr, Settings, Verp
from meta1g.qmgr.store import scanned, surveyed
from meta1g.qmgr.turn import turn
from meta1g.shim import ibdb
from meta1g.shim.cdb import ContentDb
from meta1g.shim.journal import Entry, JournalWriter
from meta1g.shim.records import DeferredRcpt, Ended, RcptEnd, RcptsAdded, TaNew
from tests.crash.disk import FakeDisk
from tests.flow.defedb import FakeDefedb

SETTINGS = Settings(
    hostname="host.test", aq_entries_max=500, iqdb_entries_max=500, retry_delay_min=60, retry_delay_max=600,
    queue_return=3600, double_bounce_address=b"double@host.test", verp=Verp(), dsn_merge_delay=5,
    dsn_errors_max=100, dsn_header_only=False, dsn_form=Form.PLAIN, dsn_delay=0, dsn_delay_by_lmtp=True,
    dane_return=3600, dane_delay=0,
    out=OutLimits(2, 5, 10), lmtp_rcpts_max=10, smtp_rcpts_max=10, reuses_connections=True,
    occ_entries_max=100, in_rate_max=100, in_connections_max=10, in_clients_max=1000,
    delivery_timeout=300, scheduler_timeout=600,
    smar_timeout=30, disk_space_min=100, disk_space_ok=200, smtps_sessions_max=50)
FOLDER = "ibdb"


class Peer:
    """A peer of the hub."""

    def __init__(self, role: str, process: int = 0) -> None:
        self.role = role
        self.process = process
        self.hello = Hello(PROTOCOL_VERSION, 1, process, role)

    def __str__(self) -> str:
        return f"{self.role}{self.process}"


class Smtps(Peer):
    """An SMTP server process: its journal, and what QMGR has not answered."""

    def __init__(self, disk: FakeDisk, process: int) -> None:
        super().__init__("smtps", process)
        self.journal = JournalWriter(disk, "")  # type: ignore[arg-type]
        self.waiting: dict[int, tuple[str, str]] = {}  # tag: transaction, segment
        self.next_id = 0  # of those that QMGR gave; 0: none yet

    @property
    def open_segments(self) -> JournalOpen:
        return JournalOpen(tuple(
            Segment(name) for name in sorted({self.journal.segment, *(s for _, s in self.waiting.values())} - {""})))


class World:
    """QMGR with everything around it."""

    def __init__(self, settings: Settings = SETTINGS, edbc_max: int = ENTRIES_MAX) -> None:
        self.now = 1_000_000.0
        self.settings = settings
        self.edbc_max = edbc_max
        self.q = Qmgr(settings, self.now - 1, edbc=Edbc(edbc_max))
        self.disk = FakeDisk()
        self.cdb = ContentDb(self.disk, "")  # type: ignore[arg-type]
        self.log_files = ibdb.Ibdb(self.disk, FOLDER, 2000)  # type: ignore[arg-type]
        self.store = FakeDefedb(lambda: self.disk.count("defedb"))
        self.smtps, self.smtps2 = Smtps(self.disk, 0), Smtps(self.disk, 1)
        self.smtpc, self.smar = Peer("smtpc"), Peer("smar")
        self.peers: tuple[Peer, ...] = (self.smar, self.smtps, self.smtps2, self.smtpc)
        self.tool = Peer("control")
        self.lanes: dict[str, deque[tuple[int, Any]]] = {
            name: deque() for name in ("ibdb", "defedb", *map(str, self.peers), str(self.tool))}
        self.order = 0
        self.ibdb: dict[str, set[int]] = {}
        self.removed_segments: list[str] = []
        self.known_segments: set[str] = set()
        self.acks: dict[int, TaAck] = {}
        self.tas: dict[int, str] = {}
        self.delivered: list[tuple[str, bytes, bytes]] = []  # ta, sender, recipient
        self.delivers: list[Deliver] = []
        self.composed: dict[str, Compose] = {}
        self.dsns: dict[str, TaNew] = {}  # the DSNs that IBDB has
        self.log: list[str] = []
        self.bugs: list[str] = []
        self.throttles: list[Throttle] = []
        self.left = False
        self.ibdb_error = ""
        self.holds = str(Holds())  # the file
        self.holds_error = ""
        self.scan_max = 3  # recipients that DEFEDB looks at in one piece
        self.answers: list[Answer] = []
        self.lands = False  # what IBDB refused is on the disk all the same
        self.compose_error = ""
        self.settle_error = ""
        self.counter = 1 << 20
        self.sessions: set[int] = set()
        self.up: set[Peer] = set()
        self.route: Callable[[bytes], tuple[Target, ...]] = default_route
        self.result: Callable[[Deliver, bytes], int] = lambda deliver, address: 0
        self.host_fails: Callable[[Hop], bool] = lambda hop: False
        self.hops: dict[int, Hop] = {}
        self.silent: set[Peer] = set()  # peers that do not answer
        self.has_dsn = False  # what the servers that mail goes to offer
        self.crashes = 0
        self.is_torn = False  # the last recovery kept orphans

    # What drives it

    def begin(self) -> "World":
        """The peers are there, with one SMTP server."""
        for peer in (self.smar, self.smtps, self.smtpc):
            self.connect(peer)
        return self.run()

    def connect(self, peer: Peer) -> None:
        self.up.add(peer)
        self.feed((peer, PeerUp(peer.hello), 0))
        if peer is self.smtpc:
            self.feed((peer, Ready(20), 0))
        if isinstance(peer, Smtps):
            self.feed((peer, peer.open_segments, 0))

    def disconnect(self, peer: Peer, *, dies: bool = True) -> None:
        """The link breaks; the process dies with it or lives on."""
        self._cut(peer, dies=dies)
        self.feed((peer, PeerDown("gone"), 0))

    def _cut(self, peer: Peer, *, dies: bool) -> None:
        self.up.discard(peer)
        self.lanes[str(peer)].clear()
        if peer is self.smtpc:
            self.sessions.clear()
        if isinstance(peer, Smtps):
            peer.waiting.clear()
            if dies:
                peer.journal.end_segment()
                peer.next_id = 0

    def feed(self, *items: Any, is_tick: bool = False) -> None:
        """One turn with these items."""
        for item in items:
            if isinstance(item, tuple) and len(item) == 3 and isinstance(item[1], JournalOpen):
                self.known_segments |= {segment.name for segment in item[1].segments}
        same = Configured(self.q.settings, self.q.hosts, ())
        for effect in turn(self.q, items, self.now, lambda: same, is_tick=is_tick):
            match effect:
                case Tell() if effect.peer in self.up:
                    self._told(effect.peer, effect.message, effect.tag)
                case LogLine():
                    self.log.append(effect.text)
                    if "bug=" in effect.text:
                        self.bugs.append(effect.text)
                case WriteIbdb():
                    self._put("ibdb", effect)
                case Tell():
                    pass  # it is gone
                case _:
                    self._put("defedb", effect)

    def _put(self, lane: Peer | str, item: Any) -> None:
        self.order += 1
        self.lanes[str(lane)].append((self.order, item))

    def step(self, lane: str = "") -> bool:
        """Let the oldest thing of a lane happen (of all lanes if none is named); False if there is none."""
        if not lane:
            lane = min((name for name in self.lanes if self.lanes[name]), key=lambda name: self.lanes[name][0][0],
                       default="")
        if not lane or not self.lanes[lane]:
            return False
        _, item = self.lanes[lane].popleft()
        match item:
            case WriteIbdb():
                self._write_ibdb(item)
            case WriteDefedb():
                self._write_defedb(item)
            case ReadDefedb():
                self._read(item)
            case ScanDefedb():
                self.feed(scanned(item, *self.store.scan(item.start, self.scan_max)))
            case SurveyDefedb():
                self.feed(surveyed(item, *self.store.survey(item.start, self.scan_max)))
            case WriteHolds():
                self._write_holds(item)
            case Checkpoint():
                self.feed(Done(item.then))
            case RemoveContent() | RemoveSegment():
                self._remove(item)
            case _:
                self.feed(item)
        return True

    def run(self) -> "World":
        """Until nothing is under way."""
        for _ in range(100_000):
            if not self.step():
                return self
        raise AssertionError("the world does not come to rest")

    def tick(self, seconds: float) -> None:
        """Time passes, but nothing that is under way moves."""
        self.now += seconds
        self.feed(is_tick=True)

    def sleep(self, seconds: float, step: float = 1.0) -> "World":
        """Let time pass, with ticks."""
        end = self.now + seconds
        while self.now < end:
            self.tick(min(step, end - self.now))
            self.run()
        return self

    def control(self, name: str, **arguments: list[str]) -> None:
        """A command of qmgrctl; its answer comes into `answers`."""
        self.up.add(self.tool)
        self.feed((self.tool, Command(name, json.dumps(arguments)), 1))

    def send(self, *rcpts: bytes, mail: bytes = b"from@host.test", server: Smtps | None = None,
             is_large: bool = False, mail_params: bytes = b"", params: bytes = b"", is_8bit: bool = False,
             is_utf8: bool = False) -> int:
        """A transaction that SMTPS has on stable storage; its tag."""
        server = server or self.smtps
        self.counter += 1
        tag = self.counter
        ta = self.tas[tag] = ss_id(server.next_id or self.counter, server.process)
        server.next_id += bool(server.next_id)
        before = server.open_segments
        try:
            place = self._put_content(server, ta, is_large=is_large)
        except StoreError:
            return tag  # the client gets 451 or 452
        server.waiting[tag] = (ta, place.segment)
        if server.open_segments != before:
            self._say(server, server.open_segments, 0)
        self._say(server, TaCommit(
            self.now, 0, 10, is_8bit, is_utf8, "S" + "0" * 18, ta, "192.0.2.1", mail, mail_params,
            tuple(Rcpt(idx, rcpt, params) for idx, rcpt in enumerate(rcpts)), (place,)), tag)
        return tag

    def _put_content(self, server: Smtps, ta: str, *, is_large: bool) -> Content:
        if not is_large:
            (place,) = server.journal.write([Entry(ta, [content_of(ta)])])
            return place
        writer = self.cdb.writer(ta)
        try:
            writer.append(content_of(ta))
            writer.commit()
        except StoreError:
            writer.abort()
            raise
        return Content(0, writer.size, "")

    def _say(self, peer: Peer, message: Any, tag: int) -> None:
        """At once, unless something else that the peer said is still on its way."""
        if self.lanes[str(peer)]:
            self._put(peer, (peer, message, tag))
        else:
            self.feed((peer, message, tag))

    def crash(self, ibdb_writes: int = 0, defedb_writes: int = 0,
              loss: Callable[[FakeDisk], FakeDisk] | None = None) -> None:
        """QMGR dies when its threads have done that much more of what was waiting; and starts again.

        With `loss` everybody dies, and it tells what the disk is afterwards.
        """
        self.crashes += 1
        for name, count in (("ibdb", ibdb_writes), ("defedb", defedb_writes)):
            for _, item in list(self.lanes[name])[:count]:
                if isinstance(item, WriteIbdb):
                    self._append(item)
                elif isinstance(item, WriteDefedb):
                    self.store.write([item.change])
                elif isinstance(item, WriteHolds):
                    self.holds = str(item.holds)
                elif not isinstance(item, ReadDefedb | ScanDefedb | SurveyDefedb | Checkpoint):
                    self._remove(item)
            self.lanes[name].clear()
        for peer in list(self.up):
            self._cut(peer, dies=loss is not None)
        if loss is not None:
            self.disk = loss(self.disk)
            self.cdb = ContentDb(self.disk, "")  # type: ignore[arg-type]
            for server in (self.smtps, self.smtps2):
                server.journal = JournalWriter(self.disk, "")  # type: ignore[arg-type]
        self.q = Qmgr(self.settings, self.now)
        self.log_files = ibdb.Ibdb(self.disk, FOLDER, 2000)  # type: ignore[arg-type]
        damage: list[CorruptRecord] = []
        found = recover(self.disk, FOLDER, self.store, self.cdb, damage.append,  # type: ignore[arg-type]
                        edbc_max=self.edbc_max)
        self.is_torn = bool(damage)
        assert all(isinstance(error, TornTail) for error in damage), damage
        self.log_files.forget_before(found.keep)
        self.ibdb = {ta.ta: set(ta.rcpts) for ta in found.fresh}
        for record in found.keep:
            if isinstance(record, TaNew) and record.origin:  # the crash came as it was being written
                self.dsns.setdefault(record.ta, record)
        self.log += [line.text for line in fill(self.q, found, self.now)]
        self.q.holds = parse_holds(self.holds)
        self.known_segments = set(found.segments)

    def sweep(self) -> None:
        """What recovery kept because of a torn log goes at the next start."""
        self.run()
        if self.is_torn:
            back = sorted(self.up, key=str)
            self.crash()
            for peer in back:
                self.connect(peer)
            assert not self.is_torn

    # What must hold

    def check_empty(self) -> None:
        """Nothing is left of any message, anywhere."""
        q = self.q
        assert not self.bugs, self.bugs
        assert (q.aq, q.aq_rcpts, q.iqdb, q.iqdb_rcpts, q.composing) == ({}, 0, {}, 0, {})
        assert (q.bouncing, q.tasks, q.asked) == ({}, {}, {})
        assert (self.ibdb, self.defedb, self.store.tas, q.reading) == ({}, {}, {}, {})
        assert (q.deferred_rcpts, q.deferred_tas, q.loading) == (0, 0, 0)
        assert q.overtaken <= q.settling.keys()
        assert self.files == set()
        assert not any(q.holders.values()), q.holders
        assert not any(site.waiting for site in q.sites.values())

    def check_segments(self) -> None:
        """Of the segments that QMGR has heard of, only those are left that a server may still use."""
        names = {segment.name for peer in self.peers if isinstance(peer, Smtps) for segment in
                 peer.open_segments.segments}
        assert set(self.disk.names("journal")) & self.known_segments <= names

    @property
    def defedb(self) -> dict[tuple[str, int], DeferredRcpt]:
        return self.store.rcpts

    @property
    def files(self) -> set[str]:
        """Transactions whose content has a file of its own."""
        return set(self.cdb.transactions())

    # Peers

    def _told(self, peer: Peer, message: Any, tag: int) -> None:
        match message:
            case TaAck():
                self.acks[tag] = message
                assert isinstance(peer, Smtps)
                before = peer.open_segments
                peer.waiting.pop(tag, None)
                if peer.open_segments != before:
                    self._put(peer, (peer, peer.open_segments, 0))
            case Answer():
                self.answers.append(message)
            case Throttle():
                self.throttles.append(message)
            case Welcome():
                assert isinstance(peer, Smtps)
                peer.next_id = message.id_first
            case Rotate():
                if isinstance(peer, Smtps) and message.segment == peer.journal.segment and message.segment not in {
                        segment for _, segment in peer.waiting.values()}:
                    peer.journal.end_segment()
                    self._put(peer, (peer, peer.open_segments, 0))
            case Left():
                self.left = True
            case CloseSession():
                self.sessions.discard(message.session)
            case _ if peer in self.silent:
                pass
            case Resolve():
                targets = self.route(message.address)
                is_list = len(targets) != 1 or targets[0].address != message.address
                if is_list and not message.expand:  # what came out of an alias is not looked up as one again
                    targets = default_route(message.address)
                self._put(peer, (peer, Resolved(targets), tag))
            case Compose():
                self._compose(peer, message)
            case Settle():
                self._settle(peer, message)
            case Deliver():
                self._deliver(peer, message)

    def _compose(self, peer: Peer, message: Compose) -> None:
        assert isinstance(peer, Smtps)
        if self.compose_error:
            self._put(peer, (peer, Composed(0, message.ta, self.compose_error, ()), 0))
            return
        before = peer.open_segments
        self.composed[message.ta] = message
        try:
            place = self._put_content(peer, message.ta, is_large=False)
        except StoreError as error:
            self._put(peer, (peer, Composed(0, message.ta, str(error), ()), 0))
            return
        if peer.open_segments != before:
            self._put(peer, (peer, peer.open_segments, 0))
        self._put(peer, (peer, Composed(10, message.ta, "", (place,)), 0))

    def _settle(self, peer: Peer, message: Settle) -> None:
        error = self.settle_error
        if not error:
            try:
                self.cdb.settle(message.ta, message.content[0])
            except (StoreError, CorruptRecord) as trouble:  # its last recipient has ended meanwhile
                error = str(trouble)
        self._put(peer, (peer, Settled(message.ta, error, message.content), 0))

    def _deliver(self, peer: Peer, message: Deliver) -> None:
        self.delivers.append(message)
        if message.is_new:
            self.sessions.add(message.session)
            self.hops[message.session] = message.hop[0]
        assert message.session in self.sessions, "a task for a session that is not open"
        assert b"".join(self.cdb.pieces(message.ta, message.content[0])) == content_of(message.ta)
        hop = self.hops[message.session]
        if message.is_new and self.host_fails(hop):
            self.sessions.discard(message.session)
            results = tuple(Result(r.idx, 451, Stage.CONNECT, False, "4.4.1", "refused") for r in message.rcpts)
            self._put(peer, (peer, Delivered(message.session, message.task, False, True, False, results), 0))
            return
        results = []
        for rcpt in message.rcpts:
            code = self.result(message, rcpt.address)
            if code == 0:
                self.delivered.append((message.ta, message.mail, rcpt.address))
            results.append(Result(rcpt.idx, code, Stage.DOT if code == 0 else Stage.RCPT, True, "", "said so"))
        self._put(peer, (peer, Delivered(message.session, message.task, True, False, self.has_dsn, tuple(results)), 0))

    # Stores

    def _write_ibdb(self, write: WriteIbdb) -> None:
        if self.ibdb_error and write.may_fail:
            if self.lands:
                self._append(write)
            self.feed(Done(write.then, self.ibdb_error, self.ibdb_error == "full"))
            return
        try:
            self._append(write)
        except StoreError as error:
            if write.may_fail:
                self.feed(Done(write.then, str(error), error.is_full))
            else:
                self.lanes["ibdb"].appendleft((0, write))
            return
        try:
            self.log_files.remove_old()
        except StoreError:
            pass  # the next write tries again
        if write.then is not None:
            self.feed(Done(write.then))

    def _write_defedb(self, write: WriteDefedb) -> None:
        try:
            self.store.write([write.change])
        except StoreError:
            self.lanes["defedb"].appendleft((0, write))
            return
        if write.then is not None:
            self.feed(Done(write.then))

    def _append(self, write: WriteIbdb) -> None:
        self.log_files.write(write.records)
        for record in write.records:
            match record:
                case TaNew():
                    self.ibdb[record.ta] = {rcpt.idx for rcpt in record.rcpts}
                    if record.origin:
                        self.dsns[record.ta] = record
                    for ended in record.ended:
                        self._end(record.origin, ended)
                case RcptEnd():
                    self._end(record.ta, record)
                case RcptsAdded():
                    self.ibdb[record.ta].discard(record.idx)
                    self.ibdb[record.ta] |= {rcpt.idx for rcpt in record.rcpts}

    def _end(self, ta: str, end: RcptEnd | Ended) -> None:
        if ta in self.ibdb:
            self.ibdb[ta].discard(end.idx)
            assert end.is_last is (not self.ibdb[ta]), f"is_last is wrong: {ta} {end}"
            if end.is_last:
                del self.ibdb[ta]

    def _read(self, effect: ReadDefedb) -> None:
        found = self.store.load(effect.ta, effect.idxs)
        self.feed(Loaded(effect.ta, effect.idxs, found.ta, tuple(found.rcpts), found.total))

    def _write_holds(self, effect: WriteHolds) -> None:
        if not self.holds_error:
            self.holds = str(effect.holds)
        self.feed(Done(effect.then, self.holds_error))

    def _remove(self, effect: RemoveContent | RemoveSegment) -> None:
        try:
            if isinstance(effect, RemoveSegment):
                assert self.disk.unlink(f"journal/{effect.segment}"), f"{effect.segment} was removed twice"
                self.removed_segments.append(effect.segment)
            else:
                self.cdb.unlink(effect.ta)
        except StoreError:
            self.lanes["defedb"].append((0, effect))


def content_of(ta: str) -> bytes:
    """What the message of a transaction says."""
    return f"Subject: {ta}\r\n\r\n".encode()


def target(address: bytes, *ips: str, sender: bytes | None = None, code: int = 0) -> Target:
    """A target with these hosts, or a failure."""
    hops = tuple(Hop(25, ip, "") for ip in ips)
    text = "no route" if code else ""
    return Target(Protocol.ESMTP, 600, code, sender is not None, False, address, sender or b"", "", text, "", hops)


def default_route(address: bytes) -> tuple[Target, ...]:
    """Each domain has its own host, named by a number in it."""
    return (target(address, "192.0.2." + str(sum(address.rpartition(b"@")[2]) % 200)),)
