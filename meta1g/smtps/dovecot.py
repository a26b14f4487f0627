"""Dovecot's auth server: its mechanisms are offered, what clients say is passed on to it.

Peers
    A Unix socket of Dovecot's, unix_listener of its service auth; a connection for each login, so that a login that is
    given up leaves nothing behind.
"""
import secrets
import socket
from typing import Final

from meta1g.mta.errors import RemoteProtocolError
from meta1g.proto import dovecot
from meta1g.proto.dovecot import Cont, Fail
from meta1g.proto.sasl.mechanisms import Virtues
from meta1g.proto.sasl.step import AuthFailed, Success
from meta1g.smtps.keeper import KeeperAway
from meta1g.st.netfd import NetFd, connect, reason_of
from meta1g.st.sched import TimedOut, now

_READ: Final = 4096  # octets at once
_KEEP: Final = 60.0  # seconds for which a list of mechanisms is good
_TO_LIST: Final = 2.0  # seconds that a greeting waits for one
_AGAIN: Final = 5.0  # seconds until it is asked for anew when that failed
_UNTOLD: Final = {"PLAIN": Virtues(noanonymous=True, pass_credentials=True)}  # which every Dovecot has


class _Line:
    """A connection, line by line, until `deadline`."""

    def __init__(self, path: str, timeout: float) -> None:
        self._deadline = now() + timeout
        self._octets = b""
        self._netfd: NetFd | None = connect(socket.AF_UNIX, path, timeout)

    def extend(self, timeout: float) -> None:
        self._deadline = now() + timeout

    def write(self, octets: bytes) -> None:
        assert self._netfd is not None
        self._netfd.write(octets, max(self._deadline - now(), 0.0), in_all=True)

    def read(self) -> bytes:
        while b"\n" not in self._octets:
            if len(self._octets) > dovecot.LINE_MAX or self._netfd is None:
                raise RemoteProtocolError("a line is too long")
            more = self._netfd.read(_READ, max(self._deadline - now(), 0.0))
            if not more:
                raise RemoteProtocolError("connection closed")
            self._octets += more
        line, _, self._octets = self._octets.partition(b"\n")
        return line

    def close(self) -> None:
        netfd, self._netfd = self._netfd, None
        if netfd is not None:
            netfd.close()


class Dovecot:
    """The server at one socket; `timeout` in seconds, for each of its answers."""

    def __init__(self, path: str, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._offered = _UNTOLD
        self._listed = float("-inf")

    def offered(self) -> dict[str, Virtues]:
        """Its mechanisms; those of the last time if it can't be asked just now."""
        if now() - self._listed > _KEEP:
            self._listed = now() - _KEEP + _AGAIN  # others need not wait, too
            try:
                self.open(_TO_LIST).close()
            except KeeperAway:
                pass  # a client that tries gets 454
        return self._offered

    def exchange(self, mechanism: str, initial: bytes | None, ip: str, *, is_tls: bool) -> "DovecotExchange":
        """A dialog with it."""
        facts: tuple[bytes, ...] = (b"rip=" + ip.encode(),) if ip != "local" else ()
        if is_tls:
            facts += (b"secured",)
        return DovecotExchange(self, dovecot.begin(mechanism, facts, initial))

    def open(self, timeout: float) -> _Line:
        """A connection on which greetings were exchanged; KeeperAway."""
        try:
            line = _Line(self._path, timeout)
        except (OSError, TimedOut) as error:
            raise self.away(error) from None
        is_good = False
        try:
            line.write(dovecot.hello(secrets.randbelow((1 << 31) - 1) + 1))
            self._read_greeting(line)
            is_good = True
        except (OSError, TimedOut, RemoteProtocolError) as error:
            raise self.away(error) from None
        finally:
            if not is_good:
                line.close()
        return line

    def _read_greeting(self, line: _Line) -> None:
        found: dict[str, Virtues] = {}
        for _ in range(dovecot.MECHANISMS_MAX):
            text = line.read()
            if text.startswith(b"VERSION\t") and text.split(b"\t")[1] != b"1":
                raise RemoteProtocolError("another version of its protocol")
            if text == b"DONE":
                self._offered, self._listed = found, now()
                return
            mechanism = dovecot.read_mechanism(text)
            if mechanism is not None:
                found[mechanism[0]] = mechanism[1]
        raise RemoteProtocolError("its greeting has no end")

    def away(self, error: Exception) -> KeeperAway:
        """What a trouble with it is called."""
        return KeeperAway(f"Dovecot at {self._path}: {reason_of(error)}")

    @property
    def timeout(self) -> float:
        """Seconds for an answer."""
        return self._timeout


class DovecotExchange:
    """A dialog that Dovecot leads."""

    def __init__(self, server: Dovecot, request: bytes) -> None:
        self._server = server
        self._request = request
        self._line: _Line | None = None

    def begin(self) -> bytes | Success:
        """Tell Dovecot of the client; its challenge, or the end."""
        self._line = self._server.open(self._server.timeout)
        return self._ask(self._line, self._request)

    def respond(self, octets: bytes) -> bytes | Success:
        """What Dovecot says to a response."""
        assert self._line is not None
        self._line.extend(self._server.timeout)
        return self._ask(self._line, dovecot.go_on(octets))

    def _ask(self, line: _Line, octets: bytes) -> bytes | Success:
        try:
            line.write(octets)
            answer = dovecot.read_answer(line.read())
        except (OSError, TimedOut, RemoteProtocolError) as error:
            raise self._server.away(error) from None
        if isinstance(answer, Cont):
            return answer.octets
        if isinstance(answer, Fail):
            if answer.is_temporary:
                raise self._server.away(RemoteProtocolError(answer.reason))
            raise AuthFailed(answer.reason, answer.user)
        return Success(answer.user)

    def end(self) -> None:
        """Close the connection, by which Dovecot forgets the login."""
        if self._line is not None:
            self._line.close()
