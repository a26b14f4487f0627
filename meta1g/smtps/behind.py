"""The client behind who connects: a load balancer's PROXY header, or smtpp's line (M1 3.10 item 20, 4.6)."""
import socket
from typing import Final, NamedTuple

from meta1g.conf.load import Config
from meta1g.conf.opt_smtps import ProxyConf
from meta1g.mta.errors import RemoteProtocolError
from meta1g.proto import proxy, smtpp
from meta1g.proto.proxy import HEADER_MAX
from meta1g.proto.smtpp import HEAD_TIMEOUT, LINE_MAX
from meta1g.st.head import read_head
from meta1g.st.netfd import NetFd
from meta1g.st.sched import now

_PROXY_TIMEOUT: Final = 10.0  # seconds for the PROXY header; the balancer sends it at once


class Gate(NamedTuple):
    """How smtpp's connections are known: by the Unix socket they come in at, or by address and port (0: any)."""

    path: str
    ip: str
    port: int
    key: bytes

    def is_smtpp(self, netfd: NetFd, ip: str) -> bool:
        """Whether a connection from `ip` ("local" for Unix sockets) is one of them."""
        if netfd.sock.family == socket.AF_UNIX:
            return bool(self.path) and netfd.sock.getsockname() == self.path
        return not self.path and ip == self.ip and self.port in (0, netfd.peer[1])


def gate_of(conf: ProxyConf | None, config: Config) -> Gate | None:
    """The gate of a configuration, if smtpp may pass on clients."""
    if conf is None:
        return None
    key = conf.client_key.encode("utf-8", "surrogateescape")
    path = config.queue_path(conf.path or "") if conf.type == "unix" else ""
    return Gate(path, conf.address, conf.port or 0, key)


def introduced(netfd: NetFd, gate: Gate) -> str:
    """The client's address in smtpp's line; what follows it is not read. RemoteProtocolError, OSError, TimedOut."""
    return smtpp.parse_introduction(read_head(netfd, LINE_MAX, HEAD_TIMEOUT), gate.key).ip


def balanced(netfd: NetFd) -> str:
    """The client's address in a load balancer's PROXY header, empty if it says nothing; what follows is not read.

    RemoteProtocolError, OSError, TimedOut.
    """
    data, end = b"", now() + _PROXY_TIMEOUT
    while True:
        left = max(end - now(), 0.0)
        piece = netfd.peek(HEADER_MAX, left)
        if not piece:
            raise RemoteProtocolError("connection closed in PROXY header")
        behind, more = None, len(piece)
        try:
            behind = proxy.parse(data + piece)
            more -= len(behind.rest) if behind is not None else 0
        finally:
            data += netfd.read(more, left)  # what is left unread would be answered by a reset
        if behind is not None:
            return behind.ip
