"""The policy milter of this process: its connection, and what becomes of sessions without it (M1 5, 3.10 item 19).

Rules
    All sessions share one connection. A session belongs to the one that was there when it began: when that breaks, the
    session goes on without the milter, or with the flag `abort` ends with 421.
    A new session finds the connection as it is. With one of the flags it tries to make it anew if it is broken, without
    flags nobody waits for that: it is tried again in the background.

Diagnostics
    policy_milter=NAME, status=up: which one it is. status=down, away, dropped: why it is not there.
"""
import socket
from typing import Any, Final

from meta1g.conf.load import Config
from meta1g.conf.opt_smtps import PolicyMilterConf
from meta1g.mta import logfmt
from meta1g.mta.errors import LinkDown
from meta1g.proc.log import Log
from meta1g.proto.pmilter import numbers
from meta1g.proto.pmilter.messages import Offer
from meta1g.proto.pmilter.numbers import Cap, Feat
from meta1g.smtps.filter import Facts, Filter
from meta1g.smtps.pmilter_dialog import PmilterDialog, Terms
from meta1g.smtps.pmilter_wire import Wire, open_wire
from meta1g.st.netfd import family_of
from meta1g.st.sched import Flag, now, sleep, spawn

_CONNECT: Final = 10.0  # seconds at most to connect and agree: a session waits for it
_REST: Final = 1.0  # seconds after a failure in which no session tries again
_BACKGROUND: Final = 30.0  # seconds between two tries that nobody waits for
_LOCAL: Final = "127.0.0.1"


class Pmilter:
    """The milter of a section policy_milter."""

    def __init__(self, conf: PolicyMilterConf, config: Config, hostname: str, log: Log, *, offers_prdr: bool) -> None:
        assert conf.socket is not None
        if conf.socket.type == "unix":
            self._family: int = socket.AF_UNIX
            self._address: Any = config.queue_path(conf.socket.path or "")
        else:
            host = conf.socket.address or _LOCAL
            self._family, self._address = family_of(host), (host, conf.socket.port or 0)
        self._offer = Offer(int(numbers.EVERYTHING), int(numbers.EVERY_FUNCTION),
                            int(Feat.PRDR) if offers_prdr else 0, 0, hostname.encode()[:numbers.NAME_MAX])
        self._terms = Terms(float(conf.timeout), "abort" in conf.flags, log)
        self._reconnects = self._terms.aborts or "accept_but_reconnect" in conf.flags
        self._log = log
        self._wire: Wire | None = None
        self._trying: Flag | None = None
        self._has_tried = False
        self._failed = float("-inf")
        self._reason = ""

    def start(self) -> None:
        """Connect; sessions that begin meanwhile wait for that."""
        spawn(self._keep)

    @property
    def name(self) -> str:
        """As the log and the statistics call it."""
        return self._terms.name

    @property
    def wants_refused(self) -> bool:
        """Whether it is told of recipients that were refused (M1 15.1.11)."""
        wire = self._wire
        return wire is not None and wire.is_up and bool(wire.capabilities & Cap.RCPT_ST)

    def begin(self, facts: Facts) -> Filter:
        """A session's part of it."""
        return PmilterDialog(self._terms, self._wire_now(), facts)

    def _wire_now(self) -> Wire | None:
        """The connection for a new session, None if there is none."""
        if self._wire is not None and self._wire.is_up:
            return self._wire
        if self._trying is not None:
            if self._reconnects or not self._has_tried:
                self._trying.wait(_CONNECT)
        elif self._reconnects and now() - self._failed > _REST:
            self._connect()
        wire = self._wire
        return wire if wire is not None and wire.is_up else None

    def _keep(self) -> None:
        while True:
            if (self._wire is None or not self._wire.is_up) and self._trying is None:
                self._connect()
            sleep(_BACKGROUND)

    def _connect(self) -> None:
        trying = self._trying = Flag()
        try:
            wire = self._wire = open_wire(
                self._family, self._address, self._offer, min(self._terms.timeout, _CONNECT), self._log)
        except LinkDown as error:
            self._failed = now()
            self._wire = None
            self._say_away(str(error))
        else:
            self._reason = ""
            self._say("up", name=wire.wants.name, capabilities=hex(wire.capabilities))
        finally:
            self._trying, self._has_tried = None, True
            trying.raise_()

    def _say_away(self, reason: str) -> None:
        """Once for each reason, until it is there again."""
        if reason != self._reason:
            self._reason = reason
            self._log.error(logfmt.fields(func="smtps", policy_milter=self._where, status="away", reason=reason))

    def _say(self, status: str, **named: object) -> None:
        self._log.info(logfmt.fields(func="smtps", policy_milter=self._where, status=status, **named))

    @property
    def _where(self) -> Any:
        return self._address if isinstance(self._address, str) else "{}:{}".format(*self._address)
