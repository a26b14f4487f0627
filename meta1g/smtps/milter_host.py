"""The program behind a section `milter`: connections to it, and whether it is there.

Peers
    A milter at a Unix or TCP socket (libmilter's, or another that speaks its protocol). A connection is for one session
    at a time; a milter of version 6 is told then that another one follows on it, unless `no_reuse`.

Rules
    Who can't be reached is left alone for a few seconds, so that not every session waits for that. So is who has let
    several sessions down, one after the other.

Diagnostics
    func=smtps, milter=NAME, status=away, reason=...: it can't be asked; said once a minute at most. status=back.
    func=smtps, milter=NAME, status=did what it had not asked for, ...: it changes what it had said it would not.
    func=smtps, milter=NAME, status=takes one session a connection: it was silent when another one followed.
"""
import socket
from typing import Any, Final, NamedTuple

from meta1g.conf.opt_smtps import MilterConf
from meta1g.mta import logfmt
from meta1g.mta.errors import MtaError, RemoteProtocolError
from meta1g.proc.log import Log
from meta1g.proto.milter import dialog, replies, wire
from meta1g.proto.milter.dialog import Dialog
from meta1g.proto.milter.replies import Answer, Verb
from meta1g.proto.milter.wire import Options, Packets
from meta1g.smtps.filter import Act
from meta1g.smtps.filter import Answer as Verdict
from meta1g.st.netfd import NetFd, connect, family_of, reason_of
from meta1g.st.sched import TimedOut, give_way, now

_READ: Final = 64 * 1024  # octets at once
_REST: Final = 5.0  # seconds in which nobody tries one that is away
_LET_DOWN: Final = 3  # sessions in a row after which it counts as away
_QUIET: Final = 60.0  # seconds between two warnings
_LAST: Final = 1.0  # seconds to take the last packet
_IDLE: Final = 30.0  # seconds for which a connection is kept for the next session
_IDLE_MAX: Final = 20  # connections
LONGEST: Final = 600.0  # seconds for all answers to one step: so long a client waits (RFC 5321 4.5.3.2.6)
_PROGRESS_MAX: Final = 10_000  # packets that say only that
_BURST: Final = 32  # packets in a row, then others have their turn


class Away(MtaError):
    """It can't be asked: why."""


class Line:
    """A connection on which options were exchanged."""

    def __init__(self, netfd: NetFd) -> None:
        self._netfd = netfd
        self._packets = Packets()
        self._burst = 0
        self.options = Options(wire.VERSION, 0, 0, {})
        self.dialog = Dialog(self.options)
        self.idle_since = 0.0
        self.is_used = False  # by an earlier session
        self._first = b""  # what is to be sent in front of the next octets

    def write(self, octets: bytes, timeout: float) -> None:
        """Send this. OSError, TimedOut."""
        first, self._first = self._first, b""
        self._netfd.write(first + octets, timeout, in_all=True)

    def rest(self) -> None:
        """A session is over; the milter hears of that with the next one, or soon (`end_session`)."""
        self._first, self.idle_since, self.is_used = dialog.QUIT_NEW, now(), True

    def end_session(self) -> bool:
        """Let the milter know that the session is over, if it does not; False if the connection is of no use."""
        if self._first:
            try:
                self.write(b"", _LAST)
            except (OSError, TimedOut):
                return False
        return self.is_fresh

    def answer(self, timeout: float, until: float) -> Answer:
        """What it answers; as long as it makes progress it may take longer, up to the time `until`.

        OSError, TimedOut, RemoteProtocolError.
        """
        for _ in range(_PROGRESS_MAX):
            found = replies.read_reply(*self.packet(min(now() + timeout, until)))
            if found is not Verb.PROGRESS:
                return found
        raise RemoteProtocolError("progress without an end")

    def packet(self, deadline: float) -> tuple[bytes, bytes]:
        """Letter and data of the next packet. OSError, TimedOut, RemoteProtocolError."""
        while (found := self._packets.next()) is None:
            self._burst = 0
            octets = self._netfd.read(_READ, max(deadline - now(), 0.0))
            if not octets:
                raise RemoteProtocolError("connection closed")
            self._packets.feed(octets)
        self._burst += 1
        if self._burst == _BURST:
            self._burst = 0
            give_way()
        return found

    @property
    def is_fresh(self) -> bool:
        """Whether it can be used for another session."""
        return now() - self.idle_since < _IDLE and self._packets.is_empty and not self._netfd.has_input()

    def close(self, last: bytes = b"") -> None:
        """End it with this packet."""
        try:
            if last:
                self._netfd.write(last, _LAST, in_all=True)
        except (OSError, TimedOut):
            pass
        self._netfd.close()


class Timeouts(NamedTuple):
    """Seconds for a connection, for the answer to a command, for that to a part of the content."""

    connect: float
    command: float
    content: float


class MilterHost:
    """One section."""

    def __init__(self, conf: MilterConf, path: str, log: Log) -> None:
        """`path` is that of a Unix socket, empty for others."""
        assert conf.socket is not None
        self.name = conf.name
        self.timeouts = Timeouts(conf.connect_timeout, conf.timeout, conf.content_timeout)
        self.default = Verdict(Act[conf.default_action.upper()])
        self._family = socket.AF_UNIX if conf.socket.type == "unix" else family_of(conf.socket.address)
        self._address: Any = path or (conf.socket.address, conf.socket.port)
        self._reuses = "no_reuse" not in conf.flags
        self.pipelines = "no_pipelining" not in conf.flags
        self._log = log
        self._idle: list[Line] = []
        self._options: Options | None = None
        self._let_down = 0  # sessions in a row
        self._rests_until = self._quiet_until = 0.0
        self._is_away = self._has_warned = False
        self._lies: set[str] = set()

    @property
    def wants_refused(self) -> bool:
        """Whether it is told of recipients that were refused; known when it has been reached."""
        return self._options is not None and bool(self._options.steps & wire.Steps.REFUSED_RCPTS)

    def line(self) -> Line:
        """A connection for a session. Away."""
        while self._idle:
            line = self._idle.pop()
            if line.is_fresh:
                return line
            line.close(dialog.QUIT)
        if now() < self._rests_until:
            raise Away("it was away a moment ago")
        if self._is_away:  # one that tries is enough
            self._rests_until = now() + self.timeouts.connect + self.timeouts.command
        return self._connect()

    def _connect(self) -> Line:
        line, deadline = None, now() + self.timeouts.connect
        try:
            line = Line(connect(self._family, self._address, self.timeouts.connect))
            line.write(wire.options_packet(), max(deadline - now(), 0.0))
            letter, data = line.packet(deadline)
            if letter != b"O":
                raise RemoteProtocolError("it does not say its options")
            line.options = self._options = wire.read_options(data)
            line.dialog = Dialog(line.options)
        except (OSError, TimedOut, RemoteProtocolError) as error:
            if line is not None:
                line.close()
            self._is_away, self._rests_until = True, now() + _REST
            self._warn(error)
            raise Away(reason_of(error)) from None
        return line

    def give_back(self, line: Line) -> None:
        """A session is over, and this connection can be used for another one."""
        if not self._reuses or line.options.version < wire.VERSION or len(self._idle) >= _IDLE_MAX:
            line.close(dialog.QUIT)
            return
        line.rest()
        self._idle.append(line)

    def tend(self) -> None:
        """Look after connections that nobody uses; to be called every second or so."""
        idle, self._idle = self._idle, []
        for line in idle:
            if line.end_session():
                self._idle.append(line)
            else:
                line.close(dialog.QUIT)

    def drop_idle(self, error: Exception) -> None:
        """A connection could not be used for another session: it was started anew, or does not know of such."""
        idle, self._idle = self._idle, []
        for line in idle:
            line.close()
        if isinstance(error, TimedOut) and self._reuses:
            self._reuses = False
            self._log.warning(logfmt.fields(func="smtps", milter=self.name, status="takes one session a connection"))

    def is_there(self) -> None:
        """It can be reached, and answers."""
        if self._let_down < _LET_DOWN:
            self._is_away, self._rests_until = False, 0.0

    def succeeded(self) -> None:
        """It has answered as it should."""
        self._let_down, self._rests_until, self._is_away = 0, 0.0, False
        if self._has_warned:
            self._has_warned = False
            self._log.info(logfmt.fields(func="smtps", milter=self.name, status="back"))

    def failed(self, error: Exception) -> None:
        """It has not."""
        self._let_down += 1
        if self._let_down >= _LET_DOWN:
            self._is_away, self._rests_until = True, now() + _REST
        self._warn(error)

    def _warn(self, error: Exception) -> None:
        if now() >= self._quiet_until:
            self._quiet_until, self._has_warned = now() + _QUIET, True
            self._log.warning(logfmt.fields(func="smtps", milter=self.name, status="away", reason=reason_of(error)))

    def lied(self, action: str) -> None:
        """It does what it had said that it would not; it may, but whoever wrote it should know."""
        if action not in self._lies:
            self._lies.add(action)
            self._log.warning(logfmt.fields(
                func="smtps", milter=self.name, status="did what it had not asked for", action=action))
