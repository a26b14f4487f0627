"""A connection in TLS, with the interface of NetFd (M1 9.3)."""
import errno
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, TypeVar

from OpenSSL import SSL

from meta1g.mta.tls import HandshakeFailed, TlsFacts
from meta1g.st.netfd import NetFd
from meta1g.st.sched import TimedOut
from meta1g.tls.keys import reason
from meta1g.tls.peer import Seen, chain_of, facts_of

T = TypeVar("T")
_RECORD: Final = 16384  # octets of content in a TLS record, RFC 8446 5.1


class TlsFd:
    """A stream in TLS over a NetFd, which it closes."""

    def __init__(self, netfd: NetFd, connection: SSL.Connection) -> None:
        """Use `shake_hands`."""
        self._netfd = netfd
        self._connection = connection
        self.sock = netfd.sock
        self.peer: Any = netfd.peer
        self.at_end: Callable[[], Any] = lambda: None

    def read(self, size: int, timeout: float) -> bytes:
        """Up to `size` octets, b"" at the end of the stream."""
        try:
            return self._do(lambda: self._connection.recv(size), monotonic() + timeout)
        except (SSL.ZeroReturnError, SSL.SysCallError):
            return b""  # who cuts the stream can't forge an end of content: SMTP has its own

    def has_input(self) -> bool:
        """Whether octets (or the end) are there to be read now; part of a record counts as some."""
        return self._connection.pending() > 0 or self._netfd.has_input()

    def write(self, data: bytes, timeout: float, *, is_last: bool = False, in_all: bool = False) -> None:
        """All of `data`; the timeout counts for each step of progress, or for the whole (`in_all`)."""
        end = monotonic() + timeout
        view = memoryview(data)
        while view:
            piece = view[:_RECORD]
            try:
                sent = self._do(lambda piece=piece: self._connection.send(piece), end)  # type: ignore[misc]
            except SSL.ZeroReturnError:
                raise ConnectionResetError(errno.ECONNRESET, "the other side has ended TLS") from None
            view = view[sent:]
            if not in_all:
                end = monotonic() + timeout

    def end(self) -> None:
        """Say the end of the stream, if that goes without waiting."""
        self.at_end()
        try:
            self._connection.shutdown()
        except SSL.Error:
            pass

    def close(self) -> None:
        """Say the end and close."""
        self.end()
        self._netfd.close()

    @property
    def session(self) -> SSL.Session | None:
        """What a later connection may take up; of TLS 1.3 it comes with the first octets read."""
        return self._connection.get_session()

    def _do(self, step: Callable[[], T], end: float) -> T:
        return until_done(self._netfd, step, end)


def until_done(netfd: NetFd, step: Callable[[], T], end: float) -> T:
    """The result of a step of OpenSSL, which may have to wait for the socket.

    TimedOut, OSError; SSL.ZeroReturnError or SSL.SysCallError at the end of the stream.
    """
    while True:
        try:
            return step()
        except SSL.WantReadError:
            netfd.await_input(_left(end))
        except SSL.WantWriteError:
            netfd.await_room(_left(end))
        except SSL.ZeroReturnError:
            raise
        except SSL.SysCallError as error:
            if error.args[0] > 0:
                raise OSError(*error.args) from None
            raise
        except SSL.Error as error:
            raise OSError(errno.EPROTO, f"TLS: {reason(error)}") from None


def _left(end: float) -> float:
    left = end - monotonic()
    if left <= 0:
        raise TimedOut
    return left


def shake_hands(
    netfd: NetFd, context: SSL.Context, timeout: float, *, is_server: bool, digest: str, was_asked: bool = True,
    server_name: str = "", session: SSL.Session | None = None, shows_chain: bool = False
) -> tuple[TlsFd, TlsFacts]:
    """Begin TLS on a connection within `timeout` seconds; HandshakeFailed, TimedOut.

    A client says `server_name` (RFC 6066 3) and may take up a `session`. The facts have the chain if one `shows_chain`.
    """
    connection = SSL.Connection(context, netfd.sock)
    connection.set_app_data(Seen())
    if is_server:
        connection.set_accept_state()
    else:
        connection.set_connect_state()
        if server_name:
            connection.set_tlsext_host_name(server_name.encode("ascii", "ignore"))
        if session is not None:
            connection.set_session(session)
    try:
        until_done(netfd, connection.do_handshake, monotonic() + timeout)
    except (SSL.SysCallError, SSL.ZeroReturnError):
        raise HandshakeFailed(errno.EPROTO, "TLS: the connection was closed") from None
    except OSError as error:
        raise HandshakeFailed(errno.EPROTO, error.strerror or "TLS failed") from None
    facts = facts_of(connection, digest, was_asked=was_asked)
    return TlsFd(netfd, connection), facts._replace(chain=chain_of(connection)) if shows_chain else facts
