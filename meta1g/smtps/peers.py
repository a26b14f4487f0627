"""Typed calls to QMGR and SMAR, with what to say when they do not answer."""
from collections.abc import Hashable
from typing import Any, Final

from meta1g.mta import addr
from meta1g.mta.errors import LinkDown
from meta1g.mta.ids import TaId, ss_id
from meta1g.proc.link import Link
from meta1g.proc.log import Log
from meta1g.proto import msg_ar, msg_ss
from meta1g.proto.msg_ar import (
    Action,
    CheckCert,
    CheckConnect,
    CheckEhlo,
    CheckGrey,
    CheckMail,
    CheckRcpt,
    MapsReopened,
    Verdict,
)
from meta1g.st.sched import TimedOut, now

_CACHE_SECONDS: Final = 60.0  # a verdict is asked again after this time; SMAR tells when maps change
_CACHE_MAX: Final = 20_000  # verdicts held; a whole cache is dropped when full

UNAVAILABLE: Final = Verdict(
    Action.REJECT, True, False, True, False, 451, "4.3.0", "Address check not available", "", "")

Question = CheckConnect | CheckEhlo | CheckMail | CheckRcpt | CheckGrey | CheckCert


class Smar:
    """The address resolver, as SMTPS sees it."""

    def __init__(self, path: str, process: int, timeout: float, log: Log) -> None:
        self.link = Link(path, msg_ar.VOCABULARY, "smtps", process, log)
        self.link.on_message = self._on_message
        self._timeout = timeout
        self._log = log
        self._cache: dict[Hashable, tuple[float, Verdict]] = {}
        self._tags = {"*"}
        self.hits = 0
        self.misses = 0

    def may_have(self, tag: str) -> bool:
        """Whether the access map may have entries with this tag; SMAR tells when it is connected."""
        return tag in self._tags or "*" in self._tags

    def ask(self, question: Question) -> Verdict:
        """SMAR's verdict, from the cache if it is fresh; a temporary rejection if SMAR can't be asked.

        A verdict that holds for a recipient's whole domain is asked for once.
        """
        key: Hashable = (type(question), question)  # equal tuples of two classes are equal
        widest = key
        if isinstance(question, CheckRcpt):
            widest = question.wants, addr.split(question.address)[1].lower()
        cached = self._cache.get(widest) or self._cache.get(key)
        if cached is not None and cached[0] > now():
            self.hits += 1
            return cached[1]
        self.misses += 1
        try:
            verdict: Verdict = self.link.call(question, self._timeout)
        except (LinkDown, TimedOut) as error:
            self._log.error(f"func=smtps, where={type(question).__name__}, status={error or 'timeout'}")
            return UNAVAILABLE
        if not 400 <= verdict.code < 500 and not verdict.resolve.startswith("temp"):
            if len(self._cache) >= _CACHE_MAX:
                self._cache.clear()
            self._cache[widest if verdict.for_domain else key] = (now() + _CACHE_SECONDS, verdict)
        return verdict

    def _on_message(self, message: Any, tag: int) -> None:
        if isinstance(message, MapsReopened):
            self._cache.clear()
            self._tags = set(message.tags.split())


class Ids:
    """Gives session and transaction ids from the range that QMGR allotted."""

    def __init__(self, process: int) -> None:
        self._process = process
        self._next = 0
        self._last = -1

    def allot(self, first: int, last: int) -> None:
        """A new range, both ends included."""
        self._next, self._last = first, last

    @property
    def is_empty(self) -> bool:
        """Whether no id is left (QMGR has not been there yet)."""
        return self._next > self._last

    def take(self) -> TaId:
        """The next id; LinkDown if QMGR has not given any."""
        if self.is_empty:
            raise LinkDown("no ids from QMGR")
        number = self._next
        self._next += 1
        return TaId(ss_id(number, self._process))


class Qmgr:
    """The queue manager, as SMTPS sees it."""

    def __init__(self, path: str, process: int, timeout: float, log: Log) -> None:
        self.link = Link(path, msg_ss.VOCABULARY, "smtps", process, log)
        self._timeout = timeout
        self._log = log
        self.wants_names = False

    def open_session(self, se: str, client_ip: str, client_name: str) -> msg_ss.SeAck:
        """May this client stay? LinkDown or TimedOut if QMGR can't be asked."""
        ack: msg_ss.SeAck = self.link.call(msg_ss.SeNew(se, client_ip, client_name), self._timeout)
        return ack

    def close_session(self, se: str, client_ip: str) -> None:
        """The session is over."""
        self.link.send(msg_ss.SeEnd(se, client_ip))

    def commit(self, commit: msg_ss.TaCommit) -> msg_ss.TaAck:
        """Make the envelope durable; a temporary error if QMGR does not say so."""
        try:
            ack: msg_ss.TaAck = self.link.call(commit, self._timeout)
        except (LinkDown, TimedOut) as error:
            self._log.error(f"func=smtps, where=commit, ss_ta={commit.ta}, status={error or 'timeout'}")
            return msg_ss.TaAck(451, "4.3.0", "Queue not available, try again later")
        return ack
