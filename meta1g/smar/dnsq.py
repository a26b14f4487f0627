"""The DNS thread: many questions in flight over UDP, TCP when an answer is cut (RFC 7766).

Rules
    Identical questions in flight are asked once. Each query has a random id and leaves
    from one of several random ports, which are exchanged now and then; an answer counts
    only if address, port, id and question fit (RFC 5452 9).
    A query that gets no answer in `timeout` goes to the next nameserver, `retries` times.
    A nameserver that has died is left out (`upstream`).
    An answer is secure only with Use_DNSSEC, and if each nameserver that gave a part of it is
    trusted and says that it has validated it.
    Every question is answered: at the latest with TEMP when its tries are used up.
    Callbacks run on this thread and must not block.
"""
import os
import random
import selectors
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from meta1g.smar import wire
from meta1g.smar.ask import DnsAnswer, DnsAsk, Status
from meta1g.smar.cache import TtlCache
from meta1g.smar.lane import Lane, TcpLane, UdpLane
from meta1g.smar.upstream import Upstream, draw_lane, pick

Callback = Callable[[DnsAnswer], None]

IN_FLIGHT_MAX: Final = 2000  # queries that wait for an answer; more wait in line
WAITING_MAX: Final = 100_000  # questions in line; beyond that the answer is TEMP at once
BURST: Final = 50  # queries sent in one turn: more at once overflow a nameserver's socket (212,992 octets on Linux)
TEMP_TTL: Final = 5.0  # seconds a failure is remembered: RFC 2308 7.1 allows up to 300
TTL_MAX: Final = 86_400  # seconds: RFC 8767 suggests a week at most, a day heals mistakes sooner
NEGATIVE_MAX: Final = 3_600  # seconds: RFC 2308 5 recommends one to three hours
_SELECT_MAX: Final = 0.5
_TCP_IDLE: Final = 10.0  # seconds: RFC 7766 6.2.3, an idle client should close


@dataclass(frozen=True, slots=True)
class DnsConf:
    """Options of the DNS section (M1 3.9.2 item 4, 8.4); `trusted` are the nameservers whose AD bit is believed."""

    nameservers: tuple[tuple[str, int], ...]
    timeout: float = 5.0
    retries: int = 3
    use_tcp: bool = False
    use_connect: bool = False
    use_dnssec: bool = False
    trusted: frozenset[str] = frozenset()

    @property
    def untrusted(self) -> list[str]:
        """Nameservers whose AD bit would be of use, but is not believed."""
        return [name for name, _ in self.nameservers if name not in self.trusted] if self.use_dnssec else []


@dataclass(slots=True)
class DnsCounts:
    """What the thread has done (M1 9.4)."""

    questions: int = 0
    queries: int = 0
    answers: int = 0
    timeouts: int = 0
    tcp: int = 0
    refused: int = 0
    in_flight: int = 0
    in_flight_max: int = 0
    bad_replies: int = 0


@dataclass(slots=True, eq=False)
class _Query:
    """A question on its way; `ask` changes while a CNAME chain is followed."""

    key: DnsAsk
    ask: DnsAsk
    callbacks: list[Callback] = field(default_factory=list)
    tries: int = 0
    links: int = 0
    ttl: int = TTL_MAX
    server: int = -1
    lane: Lane | None = None
    number: int = 0
    deadline: float = 0.0
    is_tcp: bool = False
    is_secure: bool = True
    is_refused: bool = True
    reason: str = "timeout"


class DnsThread:
    """Asks nameservers and fills the cache; one thread, any number of askers."""

    def __init__(self, conf: DnsConf, cache: TtlCache[DnsAnswer], clock: Callable[[], float],
                 rng: random.Random) -> None:
        self._conf = conf
        self._cache = cache
        self._clock = clock
        self._rng = rng
        believed = conf.trusted if conf.use_dnssec else frozenset()
        self._servers = [Upstream(address, is_trusted=address[0] in believed) for address in conf.nameservers]
        self._queries: dict[DnsAsk, _Query] = {}
        self._line: deque[_Query] = deque()
        self._sent: OrderedDict[_Query, None] = OrderedDict()  # by deadline, as all wait equally long
        self._new: deque[tuple[DnsAsk, Callback]] = deque()
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        self._is_awake = False
        self._is_stopping = False
        self.counts = DnsCounts()
        self._thread = threading.Thread(target=self._run, name="dns", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what is in flight is answered with TEMP."""
        self._is_stopping = True
        self._wake()
        self._thread.join(2.0)

    def ask(self, question: DnsAsk, callback: Callback) -> None:
        """Have `callback` called with the answer, from this thread; any thread may ask."""
        self._new.append((question, callback))
        if not self._is_awake:
            self._is_awake = True
            self._wake()

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"!")
        except BlockingIOError:
            pass

    def _run(self) -> None:
        while not self._is_stopping:
            self._take_new()
            self._start_waiting()
            now = self._clock()  # what came before this moment is read before anything is called late
            timeout = _SELECT_MAX
            if self._sent:
                timeout = min(timeout, max(0.0, next(iter(self._sent)).deadline - now))
            if self._line and self.counts.in_flight < IN_FLIGHT_MAX:
                timeout = 0.0
            for key, mask in self._selector.select(timeout):
                if key.data is None:
                    os.read(self._wake_read, 4096)
                    self._is_awake = False  # after the read: an octet written before it is seen by `_take_new`
                else:
                    self._serve(key.data, mask)
            self._expire(now)
        self._shut()

    def _shut(self) -> None:
        self._take_new()
        for query in list(self._queries.values()):
            self._finish_temp(query, "shutting down")
        for server in self._servers:
            for lane in (*server.lanes, *((server.tcp,) if server.tcp else ())):
                self._drop(lane)

    def _take_new(self) -> None:
        now = self._clock()
        while self._new:
            question, callback = self._new.popleft()
            self.counts.questions += 1
            cached = self._cache.get(question, now)
            if cached is not None:
                callback(cached)
                continue
            query = self._queries.get(question)
            if query is not None:
                query.callbacks.append(callback)
                continue
            query = _Query(question, question, [callback], is_tcp=self._conf.use_tcp)
            if len(self._line) >= WAITING_MAX:
                callback(DnsAnswer(Status.TEMP, now, reason="too many questions"))
                continue
            self._queries[question] = query
            self._line.append(query)

    def _start_waiting(self) -> None:
        for _ in range(BURST):
            if not self._line or self.counts.in_flight >= IN_FLIGHT_MAX:
                return
            query = self._line.popleft()
            self.counts.in_flight += 1
            self.counts.in_flight_max = max(self.counts.in_flight_max, self.counts.in_flight)
            self._send(query)

    # sending

    def _send(self, query: _Query) -> None:
        """Send a query to the best nameserver; the timer sees to it when that fails."""
        now = self._clock()
        query.deadline = now + self._conf.timeout
        self._sent[query] = None
        if not self._servers:
            query.tries = self._conf.retries
            return self._again(query, "no nameserver is configured")
        query.server = pick(self._servers, query.server, now)
        server = self._servers[query.server]
        try:
            query.lane = self._tcp_lane(server) if query.is_tcp else self._udp_lane(server)
            query.number = query.lane.take(query, self._rng)
            octets = wire.encode(query.ask, query.number, dnssec=self._conf.use_dnssec)
        except ValueError:
            return self._finish(query, DnsAnswer(Status.NXDOMAIN, now + NEGATIVE_MAX, reason="not a DNS name"))
        except OSError as error:
            return self._again(query, error.strerror or "socket error")
        self.counts.queries += 1
        self._put(query.lane, octets, query)
        return None

    def _put(self, lane: Lane, octets: bytes, query: _Query) -> None:
        try:
            is_whole = lane.send(octets)
        except OSError as error:
            self._servers[query.server].miss(self._clock())
            if isinstance(lane, TcpLane):
                self._lose(lane, error.strerror or "connection lost")
            else:
                self._again(query, error.strerror or "send failed")
            return
        if not is_whole:
            self._selector.modify(lane.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, lane)

    def _udp_lane(self, server: Upstream) -> UdpLane:
        for used_up in server.used_up_lanes():
            self._drop(used_up)
        lane = draw_lane(server.fresh_lanes(), self._rng)
        if lane is None:
            lane = UdpLane(server.address, server.family, use_connect=self._conf.use_connect)
            server.lanes.append(lane)
            self._selector.register(lane.sock, selectors.EVENT_READ, lane)
        return lane

    def _tcp_lane(self, server: Upstream) -> TcpLane:
        if server.tcp is None:
            server.tcp = TcpLane(server.address, server.family)
            self._selector.register(server.tcp.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, server.tcp)
        self.counts.tcp += 1
        return server.tcp

    # receiving

    def _serve(self, lane: Lane, mask: int) -> None:
        try:
            if mask & selectors.EVENT_WRITE and lane.flush():
                self._selector.modify(lane.sock, selectors.EVENT_READ, lane)
            packets = lane.receive() if mask & selectors.EVENT_READ else []
        except OSError as error:
            self._lose(lane, error.strerror or "connection closed")
            return
        lane.last_used = self._clock()
        for octets in packets:
            self._receive(lane, octets)

    def _lose(self, lane: Lane, reason: str) -> None:
        """A socket is broken: its queries go elsewhere."""
        self._drop(lane)
        queries = list(lane.waiting.values())
        if queries:
            self._servers[queries[0].server].miss(self._clock())
        for query in queries:
            self._again(query, reason)

    def _receive(self, lane: Lane, octets: bytes) -> None:
        query = lane.waiting.get(int.from_bytes(octets[:2], "big"))
        if query is None:
            self.counts.bad_replies += 1
            return
        try:
            reply = wire.decode(octets, query.ask)
        except Exception:  # forged, broken, or more than the codec can bear: the real one may still come
            self.counts.bad_replies += 1
            return
        self.counts.answers += 1
        self._servers[query.server].answered()
        self._settle(query, reply)

    def _settle(self, query: _Query, reply: wire.Reply) -> None:
        if reply.is_cut and not query.is_tcp:
            query.is_tcp = True
            query.server -= 1  # the same nameserver again
            self._release(query)
            self._send(query)
            return
        if reply.is_failed or reply.is_cut:
            self.counts.refused += reply.is_failed
            self._again(query, reply.reason, is_refused=reply.is_refused)
            return
        query.ttl = min(query.ttl, reply.ttl)
        query.is_secure = query.is_secure and reply.is_secure and self._servers[query.server].is_trusted
        if reply.goes_on:
            self._follow(query, reply.alias)
            return
        now = self._clock()
        limit = TTL_MAX if reply.status is Status.OK else NEGATIVE_MAX
        ttl = TEMP_TTL if reply.status is Status.TEMP else min(query.ttl, limit)
        alias = reply.alias or (query.ask.name if query.links else "")
        self._finish(query, DnsAnswer(reply.status, now + ttl, reply.records, reply.mx, reply.reason, query.is_secure,
                                      reply.tlsa, alias=alias))

    def _follow(self, query: _Query, name: str) -> None:
        """The chain leaves the reply: ask for its end (RFC 1034 5.3.3)."""
        query.links += 1
        if query.links > wire.CNAME_MAX:
            self._finish_temp(query, "CNAME chain is too long or a loop")
            return
        self._release(query)
        query.ask = DnsAsk(name, query.ask.rtype)
        query.tries, query.server, query.is_tcp = 0, -1, self._conf.use_tcp
        query.is_refused = True
        self._send(query)

    # ends

    def _again(self, query: _Query, reason: str, *, is_refused: bool = False) -> None:
        """This try has failed: the next one, or the end."""
        self._release(query)
        query.reason = reason
        query.is_refused = query.is_refused and is_refused
        if query.tries >= self._conf.retries:
            self._finish_temp(query, reason, is_refused=query.is_refused)
            return
        query.tries += 1
        query.is_tcp = self._conf.use_tcp or query.is_tcp
        self._line.appendleft(query)  # sent by the loop, so that a refusing nameserver cannot recurse
        self.counts.in_flight -= 1

    def _expire(self, now: float) -> None:
        while self._sent:
            query = next(iter(self._sent))
            if query.deadline > now:
                break
            self.counts.timeouts += 1
            self._servers[query.server].miss(now)
            self._again(query, "timeout")
        for server in self._servers:
            lane = server.tcp
            if lane is not None and not lane.waiting and lane.last_used < now - _TCP_IDLE and not self._conf.use_tcp:
                self._drop(lane)

    def _release(self, query: _Query) -> None:
        self._sent.pop(query, None)
        if query.lane is not None:
            query.lane.waiting.pop(query.number, None)
            query.lane = None

    def _drop(self, lane: Lane) -> None:
        for server in self._servers:
            if lane is server.tcp:
                server.tcp = None
            elif lane in server.lanes:
                server.lanes.remove(lane)
            else:
                continue
            self._selector.unregister(lane.sock)
            lane.sock.close()

    def _finish_temp(self, query: _Query, reason: str, *, is_refused: bool = False) -> None:
        expires = self._clock() + TEMP_TTL
        self._finish(query, DnsAnswer(Status.TEMP, expires, reason=reason, is_refused=is_refused))

    def _finish(self, query: _Query, answer: DnsAnswer) -> None:
        self._release(query)
        if self._queries.pop(query.key, None) is not None:
            self.counts.in_flight -= 1
        self._cache.put(query.key, answer, answer.expires, self._clock())
        for callback in query.callbacks:
            callback(answer)
