"""Requests of SMTPS and QMGR: answered from the cache at once, or by a decision.

Rules
    The hub's thread answers what it knows: all such answers of one turn leave in one write
    per peer. Everything else becomes a task of the engine, which may end at once.
    A finished decision is kept as long as all that it rests on, ANSWER_TTL at most, and
    forgotten when the maps are reopened (M1 4.8); one that rests on a failure is not kept.
    Every request is answered: with a temporary error if its time is up.

Peers
    SMTPS asks for checks, QMGR asks Resolve; tools ask Statistics, and Explain for any of these questions.
"""
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable
from typing import Any, Final, Protocol

from meta1g.mta.logfmt import fields
from meta1g.mta.reply import Reply
from meta1g.proc.hub import Batch, Peer
from meta1g.proc.log import DETAIL, Log
from meta1g.proto.msg_ar import (
    VOCABULARY,
    CheckCert,
    CheckConnect,
    CheckEhlo,
    CheckGrey,
    CheckMail,
    CheckRcpt,
    Explain,
    Explained,
    MapLookup,
    MapsReopened,
    Reopen,
    Resolve,
    Resolved,
    Statistics,
    Verdict,
    Want,
)
from meta1g.proto.rcb import FrameReader, PeerDown, PeerUp
from meta1g.smar import access
from meta1g.smar.ask import Work, look
from meta1g.smar.cache import TtlCache
from meta1g.smar.engine import Engine
from meta1g.smar.entry import rejection
from meta1g.smar.explain import Step, decided_by, described, traced
from meta1g.smar.resolve import Destination, resolve, unresolved
from meta1g.smar.route import no_route
from meta1g.smar.setup import Setup

ANSWER_TTL: Final = 300.0  # seconds: a map that was rewritten in place is seen after that without a signal
ANSWERS_MAX: Final = 50_000  # finished decisions kept: about 1 KB each
CHECK_TIMEOUT: Final = 50.0  # seconds: SMTPS waits 60 for us (M1 8.5 item 9)
RESOLVE_TIMEOUT: Final = 60.0  # seconds, if QMGR names none
_MARGIN: Final = 0.9  # of the asker's timeout: our answer should be there before it gives up

LATE: Final = Reply(451, "4.4.3", "address resolver: no answer in time")
CHECKS: Final[dict[type, Callable[[Setup, Any], Work[Verdict]]]] = {
    CheckConnect: access.check_connect,
    CheckEhlo: access.check_ehlo,
    CheckMail: access.check_mail,
    CheckRcpt: access.check_rcpt,
    CheckGrey: access.check_grey,
    CheckCert: access.check_cert,
}


class Kept(Protocol):
    """A finished decision."""

    def message(self, now: float) -> Any:
        """The answer to send now."""
        ...


class KeptVerdict:
    """A verdict is the same until it expires."""

    __slots__ = ("_verdict",)

    def __init__(self, answer: Verdict) -> None:
        self._verdict = answer

    def message(self, now: float) -> Verdict:
        """The verdict."""
        return self._verdict


class KeptRoutes:
    """Destinations: the rest of the TTL changes each second, the order of equal hosts each time."""

    __slots__ = ("_destinations", "_is_random", "_last", "_second", "_shuffle")

    def __init__(self, destinations: list[Destination], shuffle: Callable[[list[Any]], None]) -> None:
        self._destinations = destinations
        self._shuffle = shuffle
        self._is_random = any(destination.route.is_random for destination in destinations)
        self._second = -1
        self._last = Resolved(())

    def message(self, now: float) -> Resolved:
        """The targets as they are now."""
        if self._is_random or self._second != int(now):
            shuffle = self._shuffle
            self._last = Resolved(tuple([one.target(now, shuffle) for one in self._destinations]))
            self._second = int(now)
        return self._last


class Requests:
    """What SMAR does with the messages that its hub brings."""

    def __init__(
        self, engine: Engine, setup: Setup, log: Log, *,
        clock: Callable[[], float] = time.monotonic, rng: random.Random | None = None,
        more_counts: Callable[[], dict[str, Any]] = dict, reopen: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._setup = setup
        self._log = log
        self._clock = clock
        self._shuffle = (rng or random.SystemRandom()).shuffle
        self._more_counts = more_counts
        self._reopen = reopen
        self._answers: TtlCache[Kept] = TtlCache(ANSWERS_MAX)
        self._version = 0
        self._peers: set[Peer] = set()
        self._counts: Counter[str] = Counter()

    def on_batch(self, batch: Batch) -> None:
        """Handle what has come in one turn of the hub."""
        now = self._clock()
        known = self._answers.get
        frames: dict[Peer, list[bytes]] = defaultdict(list)
        for peer, message, tag in batch:
            kept = known(_key(message), now)
            if kept is not None:
                frames[peer].append(peer.frame(kept.message(now), tag))
                continue
            try:
                self._on_message(peer, message, tag)
            except Exception as error:  # one bad request must not end the hub's thread
                self._log.error(f"func=smar, peer={peer}, {fields(request=type(message).__name__, error=error)}")
        for peer, parts in frames.items():
            peer.send_octets(parts[0] if len(parts) == 1 else b"".join(parts))

    def _on_message(self, peer: Peer, message: Any, tag: int) -> None:
        self._counts[type(message).__name__] += 1
        check = CHECKS.get(type(message))
        if check is not None:
            self._check(peer, message, tag, check(self._setup, message))
        elif isinstance(message, Resolve):
            self._resolve(peer, message, tag)
        elif isinstance(message, Explain):
            self._explain(peer, message, tag)
        elif isinstance(message, PeerUp):
            self._peers.add(peer)
            peer.send(self._news())
            self._log.info(f"func=smar, peer={peer}, status=connected")
        elif isinstance(message, PeerDown):
            self._peers.discard(peer)
            self._log.info(f"func=smar, peer={peer}, status=gone, {fields(reason=message.reason)}")
        elif isinstance(message, Reopen):
            self._reopen()
        elif isinstance(message, Statistics):
            peer.send(Statistics(json.dumps(self.counts())), tag)
        else:
            self._log.error(f"func=smar, peer={peer}, request={type(message).__name__}, status=not a question")

    def _check(self, peer: Peer, message: Any, tag: int, work: Work[Verdict]) -> None:
        key, version = _key(message), self._version

        def done(answer: Verdict | None, expires: float, is_stable: bool) -> None:
            if answer is None:
                peer.send(access.verdict(rejection(LATE)), tag)
                return
            if is_stable:
                self._keep(key, KeptVerdict(answer), expires, version)
            if self._log.wants(DETAIL):
                self._log.write(f"func=smar, {fields(question=message, answer=answer)}", DETAIL)
            peer.send(answer, tag)

        self._engine.begin(work, done, CHECK_TIMEOUT)

    def _resolve(self, peer: Peer, message: Resolve, tag: int) -> None:
        key, version = _key(message), self._version

        def done(answer: list[Destination] | None, expires: float, is_stable: bool) -> None:
            if answer is None:
                peer.send(Resolved((unresolved(message.address, no_route(LATE)),)), tag)
                return
            kept = KeptRoutes(answer, self._shuffle)
            if is_stable:
                self._keep(key, kept, expires, version)
            resolved = kept.message(self._clock())
            if self._log.wants(DETAIL):
                self._log.write(f"func=smar, {fields(question=message, answer=resolved)}", DETAIL)
            peer.send(resolved, tag)

        timeout = message.timeout * _MARGIN if message.timeout > 0 else RESOLVE_TIMEOUT
        self._engine.begin(resolve(self._setup, message.address, is_expanded=message.expand), done, timeout)

    def _explain(self, peer: Peer, message: Explain, tag: int) -> None:
        (question, _), *_ = FrameReader(VOCABULARY).feed(message.question)
        steps: list[Step] = []

        def done(answer: Any, expires: float, is_stable: bool) -> None:
            if isinstance(question, Resolve) and answer is not None:
                answer = KeptRoutes(answer, self._shuffle).message(self._clock())
            told = {"question": {type(question).__name__: question._asdict()}, "answer": described(answer),
                    "decided_by": decided_by(answer, steps), "steps": steps}
            peer.send(Explained(json.dumps(told, default=_as_text)), tag)

        work = self._work(question)
        self._engine.begin(traced(work, steps, self._clock()), done, CHECK_TIMEOUT)

    def _work(self, question: Any) -> Work[Any]:
        if isinstance(question, Resolve):
            return resolve(self._setup, question.address, is_expanded=question.expand)
        if isinstance(question, MapLookup):
            return look(question.name, (question.key,))
        return CHECKS[type(question)](self._setup, question)

    def _keep(self, key: Hashable, kept: Kept, expires: float, version: int) -> None:
        now = self._clock()
        if version == self._version:
            self._answers.put(key, kept, min(expires, now + ANSWER_TTL), now)

    def reopened(self, setup: Setup) -> None:
        """The maps have been read anew: forget what rested on the old ones and tell the peers (M1 4.8)."""
        self._setup = setup
        self._version += 1
        self._answers.clear()
        for peer in list(self._peers):
            peer.send(self._news())

    def _news(self) -> MapsReopened:
        tags = self._setup.tags
        return MapsReopened(time.time(), "*" if tags is None else b" ".join(sorted(tags)).decode("utf-8", "replace"))

    def counts(self) -> dict[str, Any]:
        """Counters for statistics (M1 9.4)."""
        answers = self._answers.counts()
        return {
            "peers": len(self._peers),
            "reopened": self._version,
            "decisions": dict(sorted(self._counts.items())),
            "pending": self._engine.pending,
            "expired": self._engine.expired,
            "answers": answers._asdict(),
            **self._more_counts(),
        }


def _key(message: Any) -> Hashable:
    """What an answer depends on; the class comes first, since equal tuples of two classes are equal."""
    kind = type(message)
    if kind is Resolve:
        return Resolve, message.expand, message.address
    if kind is CheckRcpt and not message.wants & Want.PROTECTED:
        return CheckRcpt, message.wants, message.address
    if kind is CheckMail:
        return CheckMail, message.wants, message.skip, message.address
    return kind, message


def _as_text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
