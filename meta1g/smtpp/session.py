"""One connection through smtpp: who asks, where it goes, and the octets."""
import errno
import socket
from dataclasses import dataclass
from typing import Final

from meta1g.mta import logfmt
from meta1g.mta.errors import RemoteProtocolError
from meta1g.proc.log import SESSION, Log
from meta1g.proto import smtpp
from meta1g.proto.smtp import replies
from meta1g.proto.smtpp import HEAD_TIMEOUT, LINE_MAX, Client, Wanted
from meta1g.smtpp.cmdline import Options, Where
from meta1g.smtpp.relay import Relay
from meta1g.st.head import read_head
from meta1g.st.netfd import NetFd, connect, family_of, reason_of, why_not_bound
from meta1g.st.sched import TimedOut

_CONNECT_TIMEOUT: Final = 30.0  # seconds; Postfix's smtp_connect_timeout. SMTPC waits longer for our answer
_WRITE_TIMEOUT: Final = 10.0  # seconds for one line


@dataclass(slots=True)
class Counts:
    """Connections since the start, and octets of those that have ended."""

    connected: int = 0
    failed: int = 0
    refused: int = 0
    octets_forth: int = 0
    octets_back: int = 0


class Sessions:
    """Serves connections of both directions."""

    def __init__(self, options: Options, log: Log) -> None:
        self._options = options
        self._log = log
        self.counts = Counts()

    def serve_request(self, netfd: NetFd) -> None:
        """SMTPC asks for a connection to a server."""
        try:
            wanted = smtpp.parse_request(read_head(netfd, LINE_MAX, HEAD_TIMEOUT), self._options.key)
        except (RemoteProtocolError, OSError, TimedOut) as error:
            self.counts.refused += 1
            self._log.warning(logfmt.fields(
                func="smtpp", client=_peer(netfd), status="request refused", reason=reason_of(error)))
            _say(netfd, smtpp.answer(f"request refused: {reason_of(error)}"))
            return
        try:
            far = self._connect(wanted)
        except (OSError, TimedOut) as error:
            self._fail(netfd, f"{wanted.ip}:{wanted.port}", error)
            _say(netfd, smtpp.answer(reason_of(error)))
            return
        if _say(netfd, smtpp.answer()):
            self._relay(netfd, far, f"{wanted.ip}:{wanted.port}")
        else:
            far.close()

    def serve_client(self, netfd: NetFd) -> None:
        """An SMTP client comes: SMTPS hears of it first."""
        where = self._options.smtps
        assert where is not None
        try:
            client = _client(netfd)
            far = _connect_to(where)
        except (OSError, TimedOut) as error:
            self._fail(netfd, "smtps", error)
            _say(netfd, bytes(replies.NO_QMGR))
            return
        self._relay(netfd, far, "smtps", smtpp.introduction(client, self._options.key))

    def _connect(self, wanted: Wanted) -> NetFd:
        """To a server; from another address if the wanted one is not ours (M1 3.8 item 16.9.1). OSError, TimedOut."""
        source = (wanted.source, 0) if wanted.source and self._is_ours(wanted.source) else None
        return connect(family_of(wanted.ip), (wanted.ip, wanted.port), _CONNECT_TIMEOUT, source)

    def _is_ours(self, source: str) -> bool:
        reason = why_not_bound(source)
        if reason:
            self._log.warning(logfmt.fields(func="smtpp", source=source, status="not bound", reason=reason))
        return not reason

    def _fail(self, netfd: NetFd, target: str, error: OSError | TimedOut) -> None:
        self.counts.failed += 1
        self._log.write(logfmt.fields(
            func="smtpp", client=_peer(netfd), to=target, status="not connected", reason=reason_of(error)), SESSION)

    def _relay(self, netfd: NetFd, far: NetFd, target: str, first: bytes = b"") -> None:
        counts, peer = self.counts, _peer(netfd)
        counts.connected += 1
        self._log.write(logfmt.fields(func="smtpp", client=peer, to=target, status="connected"), SESSION)
        relay = Relay(netfd, far, self._options.idle_timeout)
        try:
            relay.run(first)
        finally:
            far.close()
            counts.octets_forth += relay.forth
            counts.octets_back += relay.back
        self._log.write(logfmt.fields(
            func="smtpp", client=peer, to=target, status="end", forth=relay.forth, back=relay.back,
            reason=relay.reason), SESSION)


def _client(netfd: NetFd) -> Client:
    """Without the zone of an address, which says nothing elsewhere. OSError if it comes by a Unix socket."""
    if not isinstance(netfd.peer, tuple):
        raise OSError(errno.EAFNOSUPPORT, "a client without an address")
    return Client(str(netfd.peer[0]).partition("%")[0], int(netfd.peer[1]))


def _connect_to(where: Where) -> NetFd:
    if where.path:
        return connect(socket.AF_UNIX, where.path, _CONNECT_TIMEOUT)
    return connect(family_of(where.host), (where.host, where.port), _CONNECT_TIMEOUT)


def _say(netfd: NetFd, line: bytes) -> bool:
    """Whether the line could be written."""
    try:
        netfd.write(line, _WRITE_TIMEOUT, in_all=True)
    except (OSError, TimedOut):
        return False
    return True


def _peer(netfd: NetFd) -> str:
    return str(netfd.peer[0]) if isinstance(netfd.peer, tuple) else "local"
